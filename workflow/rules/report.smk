rule build_tables:
    input:
        env=built("analysis"),
        scores=PLAN.expand(paths.SCORES),
        manifests=PLAN.expand(paths.MANIFEST),
        identical=PLAN.expand(paths.IDENTICAL),
        gaps=PLAN.gaps(),
    output:
        PLAN.here(paths.TIDY),
    log:
        PLAN.log(paths.STUDY_LOG, "build_tables"),
    benchmark:
        PLAN.benchmark(paths.STUDY_LOG, "build_tables")
    localrule: True
    conda:
        pins("analysis")
    params:
        **job("build_tables", "analysis"),
        study=lambda wildcards: dump(STUDY),  # a function: its text may hold braces
        cards=PLAN.cards(),
        folder=lambda wildcards, output: str(Path(output[0]).parent),
    shell:
        "{params.run} --study {params.study:q} --out {params.folder:q} > {log} 2>&1"


rule compare_models:
    input:
        env=built("analysis"),
        predictions=PLAN.expand(paths.PREDICTIONS),
        manifests=PLAN.expand(paths.MANIFEST),
    output:
        PLAN.here(paths.COMPARISONS),
    log:
        PLAN.log(paths.STUDY_LOG, "compare_models"),
    benchmark:
        PLAN.benchmark(paths.STUDY_LOG, "compare_models")
    conda:
        pins("analysis")
    resources:
        **demand("compare_models"),
    params:
        **job("compare_models", "analysis"),
        settings=dump(STUDY.compare),
    shell:
        "{params.run} --predictions {input.predictions:q} --manifests {input.manifests:q}"
        " --settings {params.settings:q} --out {output:q} > {log} 2>&1"


rule compare_protocols:
    input:
        env=built("analysis"),
        predictions=PLAN.expand(paths.PREDICTIONS),
        manifests=PLAN.expand(paths.MANIFEST),
    output:
        PLAN.here(paths.GAPS),
    log:
        PLAN.log(paths.STUDY_LOG, "compare_protocols"),
    benchmark:
        PLAN.benchmark(paths.STUDY_LOG, "compare_protocols")
    conda:
        pins("analysis")
    resources:
        **demand("compare_protocols"),
    params:
        **job("compare_protocols", "analysis"),
        settings=dump(STUDY.compare),
    shell:
        "{params.run} --predictions {input.predictions:q} --manifests {input.manifests:q}"
        " --settings {params.settings:q} --out {output:q} > {log} 2>&1"


rule render_report:
    input:
        env=built("analysis"),
        tables=PLAN.here(paths.TIDY),
        comparisons=PLAN.here(paths.COMPARISONS),
        neighbours=PLAN.neighbours(),
        identical=PLAN.expand(paths.IDENTICAL),
        maps=PLAN.expand(paths.UMAP_GRID, STUDY.selected(STUDY.umap.datasets)),
        saliency=PLAN.expand(paths.RISE_FIGURE, PLAN.explained()),
    output:
        PLAN.here(paths.REPORT),
    log:
        PLAN.log(paths.STUDY_LOG, "render_report"),
    localrule: True
    conda:
        pins("analysis")
    params:
        **job("render_report", "analysis", code=lambda wildcards: PLAN.page_code()),
        study=lambda wildcards: dump(STUDY),  # a function: its text may hold braces
        cards=PLAN.cards(),
    shell:
        "{params.run} --study {params.study:q} --out {output:q} > {log} 2>&1"
