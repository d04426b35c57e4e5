rule build_environment:
    output:
        paths.ENVIRONMENT,
    log:
        PLAN.log(paths.ENVIRONMENT_LOG, "build_environment"),
    benchmark:
        PLAN.benchmark(paths.ENVIRONMENT_LOG, "build_environment")
    localrule: True
    conda:
        pins("analysis")  # for the linter: with --use-conda no job asks for this rule
    params:
        run=lambda wildcards, output: PLAN.host_command("build_environment"),
        file=lambda wildcards, output: PLAN.environment_file(wildcards.env),
    shell:
        "{params.run} --file {params.file:q} --lock {output:q} > {log} 2>&1"
