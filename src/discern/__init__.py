"""discern: how discriminative are the image features of medical and general vision-language models?

The package holds the science and the file contracts and knows nothing of Snakemake; the workflow
beside it turns a study (models x data sets x protocol) into jobs. Imports only point down:
report -> analysis -> features -> data, encoders -> registry, config -> contracts, errors.
"""

__version__ = "0.1.0"
