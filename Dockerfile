# fmask in a container, for CPUs or NVIDIA GPUs.
#
#   docker build -t fmask .                              # torch without CUDA
#   docker build -t fmask --build-arg DEVICE=cuda .      # torch as in requirements.lock, with CUDA (some 5 GB more)
#   docker run --rm -v "$PWD/data:/fmask/data" -v "$PWD/runs:/fmask/runs" fmask pipeline --sample
#   docker run --rm -v "$PWD/runs:/fmask/runs" -p 127.0.0.1:7860:7860 fmask demo --host 0.0.0.0
#   docker run --rm --gpus all --shm-size 2g -v ... fmask train --data v8
#
# `make check-image` runs these steps without a Docker engine. The container runs as user 1000: make the two
# folders writable for that user, or choose another one (`docker run --user "$(id -u)"`).
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm

# cpu or cuda; with cpu, torch and torchvision come from PyTorch's own index: the locked versions, not the locked files.
ARG DEVICE=cpu

ENV PATH=/opt/fmask/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    UV_NO_CACHE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /build
COPY requirements.lock pyproject.toml ./

# uv is installed from the lock file, like everything else, and verifies the hashes in it.
RUN python3 -m venv /opt/fmask \
 && awk '/^[a-z]/ {keep = /^uv==/} keep' requirements.lock > uv.txt \
 && /opt/fmask/bin/python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r uv.txt

RUN case "$DEVICE" in \
      cuda) cp requirements.lock pins.txt ;; \
      cpu) awk '/^[a-z]/ {bare = /^torch(vision)?==/} !bare; bare && /^[a-z]/ {print $1}' requirements.lock > pins.txt ;; \
      *) echo "DEVICE is cpu or cuda, not '$DEVICE'" >&2; exit 2 ;; \
    esac \
 && if [ "$DEVICE" = cpu ]; then export UV_TORCH_BACKEND=cpu; fi \
 && uv pip install --quiet --python /opt/fmask/bin/python --compile-bytecode \
      --constraint pins.txt -r pyproject.toml --extra demo --extra export

COPY README.md LICENSE ./
COPY configs configs
COPY src src
RUN uv pip install --quiet --python /opt/fmask/bin/python --no-deps --build-constraint requirements.lock . \
 && uv pip uninstall --quiet --python /opt/fmask/bin/python uv \
 && rm -rf /build/*

RUN useradd --create-home --uid 1000 fmask \
 && install -d -o fmask -g fmask /fmask /fmask/data /fmask/runs

USER fmask
WORKDIR /fmask
VOLUME ["/fmask/data", "/fmask/runs"]
EXPOSE 7860

# Healthy: where the page is served it answers, and anywhere else fmask starts.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD if grep -qz '^demo$' /proc/1/cmdline; \
      then python -c 'import urllib.request as web; web.urlopen("http://127.0.0.1:7860/", timeout=8)'; \
      else fmask --version; fi

ENTRYPOINT ["fmask"]
CMD ["--help"]
