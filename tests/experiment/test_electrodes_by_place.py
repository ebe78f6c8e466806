"""`model.conditioning.electrodes = "position"`: refused where it cannot work, and a part of the network elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from signal_diffusion.checkpoints import write_manifest
from signal_diffusion.config import schema
from signal_diffusion.config.rules.checking import check
from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.montages import ENTRY
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import check_same_run
from signal_diffusion.experiment.loading import CONFIG_NAME, load_experiment
from signal_diffusion.experiment.network import model_of
from signal_diffusion.experiment.pretrained import Pretrained
from signal_diffusion.models.conditioning.electrodes import PlaceEmbedding

POSITION = "model.conditioning.electrodes=position"


@pytest.fixture
def card(datasets: dict[str, Path]) -> DatasetCard:
    return DatasetCard.load(datasets["timeseries"])


@pytest.fixture
def experiment(experiment_file: Path, datasets: dict[str, Path]) -> schema.Experiment:
    overrides = (
        f"data.paths.root={datasets['timeseries']}",
        "data.representation=timeseries",
        "model.architecture.patch_size=[1,64]",
        POSITION,
    )
    return load_experiment(experiment_file, overrides)


def test_the_places_are_those_of_the_card_in_the_order_of_its_channels(
    experiment: schema.Experiment, card: DatasetCard
) -> None:
    embedding = model_of(experiment, card).electrodes

    assert isinstance(embedding, PlaceEmbedding)
    torch.testing.assert_close(embedding.places, torch.tensor([card.positions[name] for name in card.channels]))
    assert embedding.places[list(card.channels).index("O1"), 1] < -0.8  # at the back of the head


def test_a_dataset_without_a_position_of_each_electrode_is_refused_with_their_names(
    experiment: schema.Experiment, card: DatasetCard
) -> None:
    positions = {name: place for name, place in card.positions.items() if name not in ("Cz", "O2")}

    with pytest.raises(UserError) as caught:
        model_of(experiment, dataclasses.replace(card, positions=positions))

    [line] = caught.value.lines
    assert line.startswith("[model.conditioning] electrodes: the dataset has no position of Cz, O2; use 'name', or ")


def test_recordings_that_lack_electrodes_need_a_network_that_knows_places(
    experiment: schema.Experiment, card: DatasetCard
) -> None:
    montages = [{"absent": ["O2", "Cz"], "subjects": {"train": 1}, "examples": {"train": 2}}]
    mixed = dataclasses.replace(card, preprocessing=card.preprocessing | {ENTRY: montages})
    model_of(experiment, mixed)
    conditioning = dataclasses.replace(experiment.model.conditioning, electrodes="name")
    by_name = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, conditioning=conditioning))

    with pytest.raises(UserError) as caught:
        model_of(by_name, mixed)

    [line] = caught.value.lines
    assert line.startswith("[model.conditioning] electrodes: some recordings of the dataset lack electrodes (Cz, O2)")
    assert "use 'position' and a dit or an hourglass" in line


def test_a_backbone_that_depends_on_the_order_of_electrodes_is_refused(
    experiment: schema.Experiment, card: DatasetCard
) -> None:
    model = dataclasses.replace(experiment.model, name="localmamba")

    with pytest.raises(UserError, match=r"electrodes: localmamba cannot take positions; .*one of dit, hourglass$"):
        model_of(dataclasses.replace(experiment, model=model), card)


def test_latents_and_spectrograms_have_no_electrodes_as_rows(
    experiment: schema.Experiment, experiment_file: Path
) -> None:
    autoencoder = schema.Autoencoder(enabled=True, path="vae")
    latent = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, autoencoder=autoencoder))

    [(key, message)] = check(latent, ())
    assert key == "model.conditioning.electrodes" and message.startswith("'position' needs examples whose rows are")
    with pytest.raises(UserError, match=r"electrodes: has no effect with data.representation = 'db-only'"):
        load_experiment(experiment_file, [POSITION])


def test_a_run_does_not_resume_with_electrodes_known_in_another_way(
    experiment: schema.Experiment, card: DatasetCard, tmp_path: Path
) -> None:
    (tmp_path / CONFIG_NAME).write_text(to_toml(experiment))
    card.save(tmp_path)
    conditioning = dataclasses.replace(experiment.model.conditioning, electrodes="name")
    other = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, conditioning=conditioning))

    check_same_run(Checkpoint(tmp_path), experiment, card)
    with pytest.raises(UserError, match=r"electrodes: 'name', but .* was trained with 'position'"):
        check_same_run(Checkpoint(tmp_path), other, card)


def test_weights_of_other_electrodes_are_a_warning_unless_they_are_known_by_place(
    experiment: schema.Experiment, card: DatasetCard, tmp_path: Path
) -> None:
    conditioning = dataclasses.replace(experiment.model.conditioning, electrodes="name")
    by_name = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, conditioning=conditioning))
    (tmp_path / CONFIG_NAME).write_text(to_toml(by_name))
    card.save(tmp_path)
    write_manifest(tmp_path, 1, [CONFIG_NAME, CARD_NAME])
    pretrained = Pretrained(source=tmp_path, table=by_name.model, checkpoint=Checkpoint(tmp_path))
    swapped = dataclasses.replace(card, channels=(*card.channels[:2], *reversed(card.channels[2:])))
    renamed = dataclasses.replace(card, channels=tuple({"T7": "T3"}.get(name, name) for name in card.channels))

    assert pretrained.other_electrodes(by_name, swapped) == "row 3 was F7, now O2"
    assert pretrained.other_electrodes(by_name, renamed) == pretrained.other_electrodes(by_name, card) == ""
    assert pretrained.other_electrodes(experiment, swapped) == ""
