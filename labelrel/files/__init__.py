"""Reading any table that people have, and writing files so that a kill leaves either the old one or the new one."""

from labelrel.files.reading import num_rows, read_batches, read_table, table_schema
from labelrel.files.writing import (
    WRITABLE,
    digest,
    digest_of,
    read_json,
    replacing,
    replacing_folder,
    write_any_table,
    write_batches,
    write_json,
    write_table,
)

__all__ = [
    "WRITABLE",
    "digest",
    "digest_of",
    "num_rows",
    "read_batches",
    "read_json",
    "read_table",
    "replacing",
    "replacing_folder",
    "table_schema",
    "write_any_table",
    "write_batches",
    "write_json",
    "write_table",
]
