rule fetch_dataset:
    input:
        env=built("data"),
    output:
        paths.DATASET_FETCHED,
    log:
        PLAN.log(paths.DATASET_LOG, "fetch_dataset"),
    benchmark:
        PLAN.benchmark(paths.DATASET_LOG, "fetch_dataset")
    localrule: True
    conda:
        pins("data")
    params:
        **job(
            "fetch_dataset",
            "data",
            code=lambda wildcards: PLAN.recipe_code(wildcards.dataset),
        ),
        source=lambda wildcards: PLAN.dataset_source(wildcards.dataset),
        place=lambda wildcards: PLAN.data_place(wildcards.dataset),
        downloads=lambda wildcards, input: paths.DOWNLOADS,
        card=lambda wildcards, input: dump(PLAN.dataset(wildcards.dataset)),
    shell:
        "{params.run} --card {params.card:q} --place={params.place:q}"
        " --downloads {params.downloads} --out {output:q} > {log} 2>&1"


rule prepare_dataset:
    input:
        env=built("data"),
        record=files_of,
    output:
        manifest=paths.MANIFEST,
        audit=paths.AUDIT,
    log:
        PLAN.log(paths.DATASET_LOG, "prepare_dataset"),
    benchmark:
        PLAN.benchmark(paths.DATASET_LOG, "prepare_dataset")
    conda:
        pins("data")
    threads: lambda w: 1 if (PLAN.dataset(w.dataset).n or 1000) < 1000 else 16  # at most; as many as are given
    resources:
        **demand("prepare_dataset"),
    params:
        **job("prepare_dataset", "data", code=lambda w: PLAN.adapter_code(w.dataset)),
        spec=lambda wildcards: dump(PLAN.dataset(wildcards.dataset).preparation_spec()),
        card=lambda wildcards, input: dump(PLAN.dataset(wildcards.dataset)),
        made=lambda wildcards, input: PLAN.made(wildcards.dataset),
        inspected=lambda wildcards, input: PLAN.inspected(wildcards.dataset),
    shell:
        "{params.run} --card {params.card:q} --record {input.record:q} --made {params.made:q}"
        " --inspected {params.inspected:q} --manifest {output.manifest:q} --audit {output.audit:q} > {log} 2>&1"


rule split_dataset:
    input:
        env=built("analysis"),
        manifest=rules.prepare_dataset.output.manifest,
    output:
        PLAN.here(paths.SPLITS),
    log:
        PLAN.log(paths.SPLIT_LOG, "split_dataset"),
    benchmark:
        PLAN.benchmark(paths.SPLIT_LOG, "split_dataset")
    conda:
        pins("analysis")
    resources:
        **demand("split_dataset"),
    params:
        **job("split_dataset", "analysis"),
        settings=dump(STUDY.split.model_dump(exclude={"protocols"})),
    shell:
        "{params.run} --manifest {input.manifest:q} --protocol {wildcards.protocol}"
        " --settings {params.settings:q} --out {output:q} > {log} 2>&1"
