"""The adapters of one base behind an OpenAI-compatible HTTP API (extra ``[server]``).

`flan-lora serve`: sockets, signals, drain    server
routes and middlewares in their order         app
completions, chat, embeddings                 endpoints
models, load and unload                       adapters
the fields of a request, and what they mean   schema
the fields of an answer                       bodies
what the server asks of a model               served
the same, on a router and its engine          router_model, answering
token ids to pieces of text, stop strings     text_stream
keys, sizes, times, starting and draining     gate
our errors to status and body                 errors
Prometheus                                    metrics
one JSON line for each request                access_log
"""
