"""Texts to answers.

texts and adapters in, completions out, any number of threads  router
a router over an adapter root, on its adapters' base            open_router
texts and who answers them to requests                         preprocess
a text to requests of the engine, outputs to a completion      prompts
requests through the engine                                    pipeline
a handle on an answer that is on its way                       pending
generation parameters of a caller over those of an adapter     params
which adapters there are: load, unload, pin, names             registry
the adapter that a text without one belongs to                 auto_route, routing_profile
what routing sees of a text, and the texts of no adapter       text_features, background
OpenAI's HTTP API, and a page to try the adapters              openai/, playground/
the same on many machines: Ray Serve   ray, ray_options, ray_server
how often "auto" is right                                      routing_report
questions that can be asked of a passage                       propose
a file of requests to a file of answers                        batch_file, batch_answers, batch_formats
the same over the actors of Ray Data                           ray_batch
"""
