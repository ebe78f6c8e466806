"""What diffusers has in place of our networks: a network of the same size, its training step and its pipeline.

The training step is that of diffusers' examples (train_unconditional.py): noise, network, mean squared error, clipping,
AdamW in its default form, averages if the experiment has them, and the loss as a number for the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator
from torch import Tensor

from signal_diffusion.benchmarks.experiments import Case
from signal_diffusion.benchmarks.measuring import Call
from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.models.dit import DiTArchitecture
from signal_diffusion.models.flops import counted_flops
from signal_diffusion.models.unet import UNet

__all__ = ["COUNTERPARTS", "Counterpart", "counterpart_of"]

CLASSES = 1000
"""Of `DiTTransformer2DModel`: its pipeline takes class 1000 for the unconditional one."""


class Counterpart:
    """A network of diffusers with fresh weights, as large as that of an experiment."""

    def __init__(self, case: Case, network: Any, *, takes_classes: bool) -> None:
        self.network, self.shape, self.takes_classes = network, case.shape, takes_classes  # diffusers has no types
        self.table: schema.Training = case.experiment.training
        one = torch.zeros(1, *self.shape), torch.zeros(1)
        self.flops = counted_flops(lambda x, t: self._predicted(network, x, t), *one)
        """FLOPs of a forward pass of one example."""

    def training_step(self, accelerator: Accelerator, batch: int) -> Call:
        """A function that takes the next optimizer step on a batch of noise."""
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        network = self.network.to(accelerator.device).train()
        own = torch.optim.AdamW(network.parameters(), lr=self.table.optimizer.learning_rate)
        model, optimizer = accelerator.prepare(network, own)
        averages = EMAModel(network.parameters()) if self.table.ema.enabled else None
        scheduler: Any = DDPMScheduler()
        clean = torch.randn(batch, *self.shape)

        def step() -> float:
            x0 = clean.to(accelerator.device)
            noise = torch.randn_like(x0)
            t = torch.randint(0, scheduler.config["num_train_timesteps"], (batch,), device=x0.device)
            loss = F.mse_loss(self._predicted(model, scheduler.add_noise(x0, noise, t), t).float(), noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if averages:
                averages.step(network.parameters())
            return loss.detach().item()

        return step

    def pipeline(self, device: torch.device, num: int, *, steps: int, guidance_scale: float) -> Call:
        """A function that generates `num` samples with diffusers' pipeline and its DDIM scheduler.

        Raises
        ------
        UserError
            If the pipeline cannot guide.
        """
        import diffusers

        library: Any = diffusers  # its pipelines have no types
        if not self.takes_classes:
            if guidance_scale != 1:
                raise UserError(
                    "--against diffusers: its pipeline of a unet cannot guide; use --set "
                    "generation.sampling.guidance_scale=1"
                )
            pipeline = library.DDIMPipeline(unet=self.network.eval(), scheduler=library.DDIMScheduler()).to(device)
            pipeline.set_progress_bar_config(disable=True)
            return lambda: pipeline(batch_size=num, num_inference_steps=steps, output_type="np")
        # the pipeline decodes latents: this autoencoder takes no time
        vae = library.AutoencoderKL(
            in_channels=1,
            out_channels=1,
            block_out_channels=(4,),
            latent_channels=self.shape[0],
            norm_num_groups=1,
            mid_block_add_attention=False,
        )
        pipeline = library.DiTPipeline(transformer=self.network.eval(), vae=vae, scheduler=library.DDIMScheduler()).to(
            device
        )
        pipeline.set_progress_bar_config(disable=True)
        labels = [0] * num
        return lambda: pipeline(
            class_labels=labels, guidance_scale=guidance_scale, num_inference_steps=steps, output_type="np"
        )

    def _predicted(self, model: Any, xt: Tensor, t: Tensor) -> Tensor:
        classes = {"class_labels": torch.zeros(len(xt), dtype=torch.int64, device=xt.device)}
        return model(xt, t, **(classes if self.takes_classes else {})).sample


def _dit(case: Case) -> Counterpart:
    """Peebles & Xie's network; each of its blocks embeds the time and the class itself."""
    from diffusers import DiTTransformer2DModel

    table, (channels, height, width) = case.experiment.model.architecture, case.shape
    assert isinstance(table, DiTArchitecture)
    rows, columns = table.patch_size
    if height != width or rows != columns or table.patch_overlap:
        raise UserError("--against diffusers: its dit takes square examples in square patches without overlap")
    network = DiTTransformer2DModel(
        num_attention_heads=table.num_attention_heads,
        attention_head_dim=table.attention_head_dim,
        in_channels=channels,
        out_channels=channels,
        num_layers=table.num_layers,
        dropout=table.dropout_rate,
        sample_size=height,
        patch_size=rows,
        num_embeds_ada_norm=CLASSES,
    )
    return Counterpart(case, network, takes_classes=True)


def _unet(case: Case) -> Counterpart:
    """The same network, without conditions."""
    from diffusers import UNet2DModel

    model, attributes = case.network()
    assert isinstance(model, UNet)
    if attributes:
        raise UserError(
            '--against diffusers: its unet is compared without conditions; set [model.conditioning] type = "none"'
        )
    settings = {name: value for name, value in model.network.config.items() if not name.startswith("_")}
    size = (case.shape[1] + model.missing_rows, case.shape[2])
    return Counterpart(case, UNet2DModel(**settings | {"sample_size": size}), takes_classes=False)


COUNTERPARTS: dict[str, Callable[[Case], Counterpart]] = {"dit": _dit, "unet": _unet}
"""By the name of our backbone."""


def counterpart_of(case: Case) -> Counterpart:
    """What diffusers has in place of a case's network.

    Raises
    ------
    UserError
        If it has nothing like it.
    """
    name = case.experiment.model.name
    if name not in COUNTERPARTS:
        raise UserError(f"--against diffusers: it has no {name}; compare one of {', '.join(COUNTERPARTS)}")
    return COUNTERPARTS[name](case)
