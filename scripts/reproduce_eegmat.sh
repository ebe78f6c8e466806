#!/usr/bin/env bash
# From the recordings of eegmat to a report and an exported model, in at most three hours on two CPU cores:
#
#     bash scripts/reproduce_eegmat.sh PATH/TO/EEGMAT [FOLDER]
#
# The recordings of 36 people are at https://physionet.org/content/eegmat/1.0.0/. Each stage that is complete is
# left as it is, and training continues from its last checkpoint, so run the same command again after an interruption.
set -euo pipefail
recordings=${1:?usage: bash scripts/reproduce_eegmat.sh PATH/TO/EEGMAT [FOLDER]}
folder=${2:-runs/eegmat}
run=$folder/run

if [ ! -e "$folder/data/signal_dataset.json" ]; then
    uv run signal-diffusion prepare "$recordings" --output "$folder/data" --representation timeseries --rate 100 \
        --band 0.5 45 --window 400 --overlap 0.875 --splits 0.5 0.1 0.4 --reference average --label task
fi
resume=()
if compgen -G "$run/checkpoint-*/manifest.json" > /dev/null; then resume=(--resume-from-checkpoint latest); fi
uv run python -m signal_diffusion.training.diffusion config/recipes/eegmat-timeseries.toml --output-dir "$run" \
    --set "data.paths.root=$folder/data" "${resume[@]}"
if [ ! -e "$folder/report/report.json" ]; then
    uv run signal-diffusion evaluate "$run" --num 1000 --controls --output "$folder/report"
fi
if [ ! -e "$folder/privacy/privacy.json" ]; then
    uv run signal-diffusion evaluate privacy "$run" --output "$folder/privacy"
fi
if [ ! -e "$folder/model" ]; then
    cp "$folder/privacy/privacy.json" "$folder/report/"    # the model card has a summary of both
    uv run signal-diffusion export "$run" --half --report "$folder/report" --output "$folder/model"
fi
