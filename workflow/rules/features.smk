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
    conda:
        pins(model_env)
    resources:
        gpu=lambda wildcards: int(PLAN.model(wildcards.model).gpu),
    params:
        **job(
            "extract_features",
            model_env,
            code=lambda w: PLAN.encoder_code("extract_features", w.model),
        ),
        spec=lambda wildcards: dump(PLAN.model(wildcards.model).extraction_spec()),
        fingerprint=lambda wildcards: PLAN.fingerprint(wildcards.model),
        batch=lambda wildcards, input: PLAN.model(wildcards.model).batch_size,
        # How, not what: as functions of `input` these are not tracked.
        settings=lambda wildcards, input: dump(STUDY.extract),
        resized=lambda wildcards, input: paths.RESIZED,
    shell:
        "{params.run} --spec {params.spec:q} --manifest {input.manifest:q} --weights {input.weights:q}"
        " --batch-size {params.batch} --device auto --fingerprint {params.fingerprint}"
        " --settings {params.settings:q} --resized {params.resized}"
        " --out {output:q} > {log} 2>&1"
