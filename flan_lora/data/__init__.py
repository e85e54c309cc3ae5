"""Rows to encoded splits.

Hub, local folder, your file or the bundled sample  sources
CSV, JSON, JSONL, Parquet, Arrow                    file_formats, csv_format, json_format
bytes of a text file to text                        text_encoding
labels by name or by place                          label_readings
rows to train, validation and test                  splits
rows of other sets beside                           mixing
training rows written otherwise each epoch           augment
is this data worth a run                            lint
what the model will see                             inspect
examples to token ids                               encoding
encoded splits kept on disk                         token_cache
"""
