rule match_features:
    input:
        env=built("analysis"),
        features=lambda wildcards: PLAN.features(wildcards.dataset),
    output:
        PLAN.here(paths.IDENTICAL),
    log:
        PLAN.log(paths.DATASET_CELLS_LOG, "match_features"),
    benchmark:
        PLAN.benchmark(paths.DATASET_CELLS_LOG, "match_features")
    conda:
        pins("analysis")
    resources:
        **demand("match_features"),
    params:
        **job("match_features", "analysis"),
    shell:
        "{params.run} --features {input.features:q} --out {output:q} > {log} 2>&1"


rule find_neighbours:
    input:
        env=built("analysis"),
        features=lambda wildcards: PLAN.features(wildcards.dataset, controls=False),
        manifest=rules.prepare_dataset.output.manifest,
        audit=rules.prepare_dataset.output.audit,
        splits=lambda wildcards: PLAN.hold_out(wildcards.dataset),
    output:
        PLAN.here(paths.NEIGHBOURS),
    log:
        PLAN.log(paths.DATASET_CELLS_LOG, "find_neighbours"),
    benchmark:
        PLAN.benchmark(paths.DATASET_CELLS_LOG, "find_neighbours")
    conda:
        pins("analysis")
    resources:
        **demand("find_neighbours"),
    params:
        **job("find_neighbours", "analysis"),
    shell:
        "{params.run} --features {input.features:q} --manifest {input.manifest:q} --audit {input.audit:q}"
        " --splits {input.splits:q} --out {output:q} > {log} 2>&1"


rule fit_svm:
    input:
        env=built("analysis"),
        features=features_of,
        manifest=rules.prepare_dataset.output.manifest,
        splits=rules.split_dataset.output[0],
    output:
        scores=PLAN.here(paths.SCORES),
        predictions=PLAN.here(paths.PREDICTIONS),
        classifier=PLAN.here(paths.CLASSIFIER),
    log:
        PLAN.log(paths.PROTOCOL_LOG, "fit_svm"),
    benchmark:
        PLAN.benchmark(paths.PROTOCOL_LOG, "fit_svm")
    conda:
        pins("analysis")
    resources:
        **demand("fit_svm"),
    params:
        **job("fit_svm", "analysis"),
        settings=dump(STUDY.svm),
        positive=lambda wildcards: PLAN.dataset(wildcards.dataset).positive_class or "",
    shell:
        "{params.run} --features {input.features:q} --manifest {input.manifest:q} --splits {input.splits:q}"
        " --protocol {wildcards.protocol} --settings {params.settings:q} --positive-class={params.positive:q}"
        " --scores {output.scores:q} --predictions {output.predictions:q}"
        " --classifier {output.classifier:q} > {log} 2>&1"


rule embed_umap:
    input:
        env=built("analysis"),
        features=features_of,
        manifest=rules.prepare_dataset.output.manifest,
    output:
        table=PLAN.here(paths.UMAP),
        figure=PLAN.here(paths.UMAP_FIGURE),
        grid=PLAN.here(paths.UMAP_GRID),
    log:
        PLAN.log(paths.CELL_LOG, "embed_umap"),
    benchmark:
        PLAN.benchmark(paths.CELL_LOG, "embed_umap")
    conda:
        pins("analysis")
    threads: lambda w: 1 if (PLAN.dataset(w.dataset).n or 1000) < 5000 else 5
    resources:
        **demand("embed_umap"),
    params:
        **job("embed_umap", "analysis"),
        settings=dump(STUDY.umap.model_dump(exclude={"datasets"})),
    shell:
        "{params.run} --features {input.features:q} --manifest {input.manifest:q}"
        " --settings {params.settings:q} --out {output.table:q}"
        " --figure {output.figure:q} --grid {output.grid:q} > {log} 2>&1"


rule explain_rise:
    input:
        env=built(model_env),
        manifest=rules.prepare_dataset.output.manifest,
        weights=weights_of,
        predictions=for_rise(rules.fit_svm.output.predictions),
        classifier=for_rise(rules.fit_svm.output.classifier),
    output:
        table=PLAN.here(paths.RISE),
        figure=PLAN.here(paths.RISE_FIGURE),
    log:
        PLAN.log(paths.CELL_LOG, "explain_rise"),
    benchmark:
        PLAN.benchmark(paths.CELL_LOG, "explain_rise")
    conda:
        pins(model_env)
    resources:
        **demand("explain_rise"),
        gpu=gpus,
    params:
        **job(
            "explain_rise",
            model_env,
            code=lambda w: PLAN.encoder_code("explain_rise", w.model),
        ),
        spec=lambda wildcards: dump(PLAN.model(wildcards.model).extraction_spec()),
        settings=dump(STUDY.rise.model_dump(exclude={"datasets"})),
        title=lambda wildcards, input: PLAN.model(wildcards.model).title,
        dataset=lambda wildcards, input: PLAN.dataset(wildcards.dataset).title,
    shell:
        "{params.run} --spec {params.spec:q} --weights {input.weights:q} --manifest {input.manifest:q}"
        " --predictions {input.predictions:q} --classifier {input.classifier:q}"
        " --settings {params.settings:q} --device auto --title={params.title:q}"
        " --dataset-title={params.dataset:q} --out {output.table:q} --figure {output.figure:q} > {log} 2>&1"
