"""The frozen T5: found, loaded, fingerprinted; text to token ids and back.

open a base in int8, nf4, bf16 or fp32               load
the same weights for serving, without transformers   serving, frozen_t5, fast_tokenizer
the kinds of the T5 family, and where they differ    architecture
int8 and 4-bit weights: made, read, counted           quantised
rows of a checkpoint's files                         checkpoint_rows
is it the same base                                  fingerprint
text to token ids, one path of training and serving  encode
token ids to text, labels as constraints             decode
a source longer than the base reads                  sliding_window
"""
