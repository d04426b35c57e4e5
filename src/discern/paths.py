"""The path grammar, spelt once for the library and the workflow.

``results/<study>/<stage>/<dataset>/<model>[/<variant>].<ext>``. Manifests and features depend on
cards alone, not on a study, so they live under ``results/shared`` and every study reuses them.
Braces are wildcards of the workflow; ``str.format`` fills them in the library.
"""

SHARED = "results/shared"
STUDY = "results/{study}"

DATASET_FETCHED = "resources/datasets/{dataset}/fetched.json"
WEIGHTS_FETCHED = "resources/weights/{model}/fetched.json"
DOWNLOADS = "resources/downloads"
ENVIRONMENT = "resources/envs/{env}/{digest}/lock.txt"

MANIFEST = SHARED + "/manifests/{dataset}.parquet"
INSPECTED = SHARED + "/inspected/{dataset}"  # what was found out about each file, kept for the next run
MADE = SHARED + "/images/{dataset}"  # pictures made from files that only the preparation reads
RESIZED = SHARED + "/resized"  # pictures resized for one model, kept for the next; may be deleted
AUDIT = SHARED + "/manifests/{dataset}.audit.json"
FEATURES = SHARED + "/features/{dataset}/{model}.parquet"
SHARD = SHARED + "/shards/{dataset}/{model}/{rows}.parquet"  # features of some rows, until they are merged

SPLITS = STUDY + "/splits/{dataset}/{protocol}.parquet"
SCORES = STUDY + "/svm/{dataset}/{model}/{protocol}.scores.parquet"
PREDICTIONS = STUDY + "/svm/{dataset}/{model}/{protocol}.predictions.parquet"
CLASSIFIER = STUDY + "/svm/{dataset}/{model}/{protocol}.classifier.safetensors"
UMAP = STUDY + "/umap/{dataset}/{model}.parquet"
UMAP_FIGURE = STUDY + "/umap/{dataset}/{model}.png"
UMAP_GRID = STUDY + "/umap/{dataset}/{model}.grid.png"
RISE = STUDY + "/rise/{dataset}/{model}.parquet"
RISE_FIGURE = STUDY + "/rise/{dataset}/{model}.png"
IDENTICAL = STUDY + "/identical/{dataset}.json"
NEIGHBOURS = STUDY + "/neighbours/{dataset}.json"

TABLES = STUDY + "/tables"
TIDY = TABLES + "/scores.csv"
COMPARISONS = TABLES + "/comparisons.parquet"
GAPS = TABLES + "/gaps.parquet"
REPORT = STUDY + "/report/index.html"
RUN = STUDY + "/run.json"  # how the last run went, renewed while it goes on

DATASET_LOG = SHARED + "/logs/{rule}/{dataset}.log"
MODEL_LOG = SHARED + "/logs/{rule}/{model}.log"
ENVIRONMENT_LOG = SHARED + "/logs/{rule}/{env}.{digest}.log"
FEATURES_LOG = SHARED + "/logs/{rule}/{dataset}/{model}.log"
SHARD_LOG = SHARED + "/logs/{rule}/{dataset}/{model}/{rows}.log"
CELL_LOG = STUDY + "/logs/{rule}/{dataset}/{model}.log"
PROTOCOL_LOG = STUDY + "/logs/{rule}/{dataset}/{model}/{protocol}.log"
DATASET_CELLS_LOG = STUDY + "/logs/{rule}/{dataset}.log"
SPLIT_LOG = STUDY + "/logs/{rule}/{dataset}/{protocol}.log"
STUDY_LOG = STUDY + "/logs/{rule}.log"
