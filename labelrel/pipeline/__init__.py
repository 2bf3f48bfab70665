"""One plain function per stage; the command line and DVC both end here.

A stage reads files, calls one room, and writes files whole. It returns what a person wants to
read about it, as a plain dict. Rooms with heavy imports are entered inside the functions.
"""

from labelrel.pipeline.align import align, align_each, comparison_id, report
from labelrel.pipeline.evaluate import evaluate, merge
from labelrel.pipeline.items import fetch, fetch_model, prepare
from labelrel.pipeline.labels import score, select
from labelrel.pipeline.supervise import paraphrase, sample, supervise

__all__ = [
    "align",
    "align_each",
    "comparison_id",
    "evaluate",
    "fetch",
    "fetch_model",
    "merge",
    "paraphrase",
    "prepare",
    "report",
    "sample",
    "score",
    "select",
    "supervise",
]
