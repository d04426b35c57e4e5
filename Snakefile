"""discern: image features of medical and general vision-language models, compared on medical images.

snakemake --cores 8 --use-conda                      the paper's full matrix (config.yaml)
snakemake --configfile config/demo.yaml --cores 8    another study; without conda, uv builds the environments
"""

import os
import subprocess
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


sys.path.insert(0, str(Path(workflow.basedir) / "src"))
# Environments are this workflow's own: their bytecode is cached, which shortens every import.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


include: "workflow/rules/common.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.render_report.output,


rule features:
    input:
        PLAN.features(),


rule tables:
    input:
        rules.build_tables.output,
        rules.compare_models.output,


rule report:
    input:
        rules.render_report.output,


rule doctor:
    log:
        PLAN.log(paths.STUDY_LOG, "doctor"),
    localrule: True
    conda:
        pins("analysis")  # for the linter: it runs in the workflow's own environment
    params:
        python=sys.executable,
        files=lambda wildcards: CONFIG_FILES,  # a function: names may hold braces
    shell:
        "{params.python:q} -m discern doctor {params.files:q} 2>&1 | tee {log}"


remember_signatures()


onstart:
    take_folder()
    record_unwatched()


onsuccess:
    RUN.close_run(True, *log)


onerror:
    report_failures()
    RUN.close_run(False, *log)
