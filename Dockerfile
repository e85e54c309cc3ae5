# flan-lora serve in a container.
#
#   docker build -t flan-lora .                                                    CPU
#   docker build -t flan-lora --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .             CUDA
#   docker run -p 8000:8000 -e FLAN_LORA_API_KEY -v "$PWD/adapters:/adapters:ro" flan-lora --base mini
#
# Adapters are not in the image: they are mounted, and read-only unless they are published from within.

ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# an image of CUDA's has no Python; one of Python's has what is asked for already
RUN command -v python3 >/dev/null && python3 -c 'import venv, ensurepip' 2>/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/flan-lora
ENV PATH=/opt/flan-lora/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/cache

# torch first and alone, so that a change of ours does not fetch it again
COPY .ci/constraints.txt /build/.ci/constraints.txt
RUN pip install --no-cache-dir -c /build/.ci/constraints.txt --extra-index-url "${TORCH_INDEX}" torch
COPY pyproject.toml README.md LICENSE /build/
COPY recipes /build/recipes
COPY flan_lora /build/flan_lora
RUN pip install --no-cache-dir -c /build/.ci/constraints.txt "/build[server]" && rm -rf /build

RUN useradd --create-home --home-dir /var/lib/flan-lora --uid 10001 flan \
    && mkdir -p /adapters /cache && chown flan /cache
USER flan
WORKDIR /var/lib/flan-lora
EXPOSE 8000
# SIGTERM drains: give it longer than --drain-timeout (docker stop -t 40)
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["flan-lora", "serve", "--host", "0.0.0.0", "--adapters-dir", "/adapters"]
