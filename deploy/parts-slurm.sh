#!/bin/sh
# A full audit in eight parts on a cluster with Slurm, from a folder that every node sees.
#
#   reading=$(sbatch --parsable --array=1-8 deploy/parts-slurm.sh /models/deepseek-v3 /scratch/audit)
#   sbatch --dependency=afterok:"$reading" --wrap \
#     "auditor audit /models/deepseek-v3 --depth full --resume /scratch/audit --json report.json"
#
# Slurm ends the second job with the exit code of the verdict.
#SBATCH --cpus-per-task=8
#SBATCH --mem=4G
#SBATCH --requeue
set -eu

exec auditor read "$1" --resume "$2" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --jobs "${SLURM_CPUS_PER_TASK:-1}"
