# The images of the GPU service: the serving container (the default target) and, as target `lifecycle`, what trains and
# publishes models as a task of its own. Both hold torch with CUDA; models are in neither. Build them with
# `make gpu-image`, or with any engine: `docker build --file infra/gpu.Dockerfile .`

# The plain base of the Lambda image does: the wheels bring all of CUDA but the driver, which is the host's and which the
# container runtime puts in. A base image of NVIDIA's would hold the same libraries a second time.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# A compiler for the kernels, which serve models where this container has no GPU.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/venv
COPY requirements/gpu.txt requirements/cuda.txt /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --require-hashes -r /tmp/gpu.txt
# What to install as torch. Without a GPU the CPU build stands in, at a tenth of the size:
# --build-arg TORCH="torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu"
ARG TORCH="--no-deps --require-hashes --requirement /tmp/cuda.txt"
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --retries 1 ${TORCH}
COPY handler/inference/native /tmp/native
RUN make --silent --jobs --directory /tmp/native OUT=/tmp
COPY handler /srv/handler
RUN mv /tmp/libnative.so /srv/handler/inference/ && rm -rf /srv/handler/inference/native
# The file system is read-only, so what is not compiled now is compiled at every start.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /py312_ /opt/venv/lib /srv


FROM build AS lifecycle-build
COPY requirements/lifecycle.txt /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --require-hashes -r /tmp/lifecycle.txt
COPY lifecycle /srv/lifecycle
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /py312_ /opt/venv/lib /srv


# What both run in: as nobody, whose home is the one place that can be written, because that is where torch, triton and
# transformers keep what they compile.
FROM ${BASE_IMAGE} AS base
RUN python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|lib2to3|[a-z]+-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYDANTIC_DISABLE_PLUGINS=true \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /srv
USER 65534
# With a read-only root this is a volume of its own; ECS gives it the rights it has here.
VOLUME /tmp


# `python -m lifecycle train ...` as a task of its own: nothing listens here.
FROM base AS lifecycle
COPY --from=lifecycle-build /opt/venv /opt/venv
COPY --from=lifecycle-build /srv /srv
ENTRYPOINT ["python", "-m", "lifecycle"]


FROM base AS serve
# Models come from S3 alone.
ENV HF_HUB_OFFLINE=1
COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv /srv
EXPOSE 8080
ENTRYPOINT ["python", "-m", "handler.container"]
