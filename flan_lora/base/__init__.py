"""The frozen T5: found, loaded, fingerprinted; text to token ids and back.

open a base in int8, bf16 or fp32                    load
the same weights for serving, without transformers   serving, frozen_t5, fast_tokenizer
the kinds of the T5 family, and where they differ    architecture
what quantised weights stand for                     quantised
is it the same base                                  fingerprint
text to token ids, one path of training and serving  encode
token ids to text, labels as constraints             decode
a source longer than the base reads                  sliding_window
"""
