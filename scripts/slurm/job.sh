# Sourced by the scripts beside it, in the folder from which they were submitted.
#
# $words   the script's words, in which %a is the job's number in its array
# in_tasks COMMAND…   run a command in every task of the job, with a log for each, and have the job requeued if it is stopped:
#     USR1, SLURM's warning before the time limit (--signal): pass it on, wait until the command has ended, requeue
#     TERM, pre-emption, `scontrol requeue` or `scancel`: SLURM has sent it to the tasks, and requeues or cancels by itself
set -euo pipefail
words=("${@//%a/${SLURM_ARRAY_TASK_ID:-}}")
export PATH="$PWD/.venv/bin:$PATH" # no `uv run`: the warning would end it, and SLURM would kill the command that it started
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

in_tasks() {
    local child code stopped=""
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
    trap 'stopped=TERM' TERM
    trap 'stopped=USR1; scancel --signal=USR1 "$SLURM_JOB_ID" || true' USR1
    # shellcheck disable=SC2016  # the tasks expand it
    srun --output="logs/%x-%j-%t.log" --open-mode=append bash -c '
        if ((SLURM_NTASKS > 1)); then # what torchrun would set
            export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
            export LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
        fi
        exec "$@"' task "$@" &
    child=$!
    while :; do # a trap ends `wait`, but not the command
        code=0 && wait "$child" || code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    if [[ $stopped == USR1 ]]; then
        echo "requeued before the time limit; restarts so far: ${SLURM_RESTART_COUNT:-0}"
        scontrol requeue "$SLURM_JOB_ID"
        sleep 60 # until SLURM ends this script
    fi
    while [[ $stopped == TERM ]] && scontrol show job "$SLURM_JOB_ID" | grep -q JobState=RUNNING; do
        sleep 1 # a job that ends within the grace time of a pre-emption would count as completed
    done
    return "$code"
}
