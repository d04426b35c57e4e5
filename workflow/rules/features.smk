rule fetch_weights:
    input:
        env=built("data"),
    output:
        paths.WEIGHTS_FETCHED,
    log:
        PLAN.log(paths.MODEL_LOG, "fetch_weights"),
    benchmark:
        PLAN.benchmark(paths.MODEL_LOG, "fetch_weights")
    localrule: True
    conda:
        pins("data")
    params:
        # Weights are pinned by hash or revision: the code that fetches them cannot change them.
        **job("fetch_weights", "data", code=lambda wildcards: ""),
        source=lambda wildcards: PLAN.weights_source(wildcards.model),
        downloads=lambda wildcards, input: paths.DOWNLOADS,
        card=lambda wildcards, input: dump(PLAN.model(wildcards.model)),
    shell:
        "{params.run} --card {params.card:q} --downloads {params.downloads} --out {output:q} > {log} 2>&1"


rule extract_features:
    input:
        env=built(model_env),
        manifest=rules.prepare_dataset.output.manifest,
        weights=weights_of,
    output:
        paths.FEATURES,
    log:
        PLAN.log(paths.FEATURES_LOG, "extract_features"),
    benchmark:
        PLAN.benchmark(paths.FEATURES_LOG, "extract_features")
    wildcard_constraints:
        dataset=PLAN.whole_pattern(),
    conda:
        pins(model_env)
    resources:
        **demand("extract_features"),
        gpu=gpus,
    params:
        **extraction("extract_features"),
    shell:
        "{params.run} --spec {params.spec:q} --manifest {input.manifest:q} --weights {input.weights:q}"
        " --batch-size {params.batch} --device auto --fingerprint {params.fingerprint}"
        " --settings {params.settings:q} --resized {params.resized}"
        " --out {output:q} > {log} 2>&1"


rule extract_shard:
    input:
        env=built(model_env),
        manifest=rules.prepare_dataset.output.manifest,
        weights=weights_of,
    output:
        temp(paths.SHARD),
    log:
        PLAN.log(paths.SHARD_LOG, "extract_shard"),
    benchmark:
        PLAN.benchmark(paths.SHARD_LOG, "extract_shard")
    wildcard_constraints:
        rows=r"\d+-(\d+|end)",
    conda:
        pins(model_env)
    resources:
        **demand("extract_shard"),
        gpu=gpus,
    params:
        **extraction("extract_shard"),
    shell:
        "{params.run} --rows {wildcards.rows} --spec {params.spec:q} --manifest {input.manifest:q}"
        " --weights {input.weights:q} --batch-size {params.batch} --device auto"
        " --fingerprint {params.fingerprint} --settings {params.settings:q} --resized {params.resized}"
        " --out {output:q} > {log} 2>&1"


rule merge_features:
    input:
        env=built("analysis"),
        manifest=rules.prepare_dataset.output.manifest,
        weights=weights_of,
        shards=lambda wildcards: PLAN.shard_files(wildcards.dataset, wildcards.model),
    output:
        paths.FEATURES,
    log:
        PLAN.log(paths.FEATURES_LOG, "merge_features"),
    benchmark:
        PLAN.benchmark(paths.FEATURES_LOG, "merge_features")
    wildcard_constraints:
        dataset=PLAN.sharded_pattern(),
    conda:
        pins("analysis")
    resources:
        **demand("merge_features"),
    params:
        **job("merge_features", "analysis"),
        # What the shards depend on: they are gone once they are merged.
        shards=lambda wildcards: PLAN.encoder_code("extract_shard", wildcards.model),
        fingerprint=lambda wildcards: PLAN.fingerprint(wildcards.model),
        folder=lambda wildcards, input: str(Path(input.shards[0]).parent),
        rows=lambda wildcards, input: [Path(shard).stem for shard in input.shards],
    shell:
        "{params.run} --shards {params.folder:q} --rows {params.rows} --manifest {input.manifest:q}"
        " --out {output:q} > {log} 2>&1"
