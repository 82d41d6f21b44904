# The image of the Lambda functions: the interpreter, the packages of requirements/image.txt, handler/, CPU torch and
# transformers.
# Models are not in it; they are read from S3. Build it with `sam build`, or with any engine: `docker build .`

# One base for both stages, so that what was compiled in the first runs in the second.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# A compiler for the kernels; and strip, which finds 100 MB of symbols in torch's libraries that nothing reads.
RUN apt-get update && apt-get install --yes --no-install-recommends binutils g++ make && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/venv
COPY requirements/image.txt /tmp/image.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --require-hashes -r /tmp/image.txt
# What serving never touches: the AWS services that are not called; the hub's client, which tokenizers depends on to
# fetch what is never fetched here; pydantic's first version, which FastAPI would import to see that no model is of it;
# tests, headers and type stubs of all.
RUN cd /opt/venv/lib/python3*/site-packages \
    && rm -rf huggingface_hub huggingface_hub-*.dist-info hf_xet hf_xet-*.dist-info pydantic/v1 \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name dynamodb ! -name sts ! -name sqs ! -name events -exec rm -rf {} + \
    && find . -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && find . -type f \( -name '*.pyi' -o -name '*.a' -o -name '*.h' \) -delete
# torch has a folder of its own, with transformers: only the engines in torch read it, and a plain start never does.
# Apart from the lock, because the package index's own build brings gigabytes of CUDA; without its dependencies, because
# those that are not in the locks (networkx) serve its compiler alone.
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --retries 1 --target /opt/torch \
        "torch==2.13.0+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
COPY requirements/transformers.txt /tmp/transformers.txt
RUN pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --require-hashes --upgrade \
        --target /opt/torch -r /tmp/transformers.txt
# torch's tests and its C++ side go. Of transformers, what is not a model that reads text: pictures, sounds and tokenizers,
# the programs its models were converted by and generated from (it looks into every file there is, at each import); and
# the packages of its command line. What is known of each package stays: transformers asks for their versions.
RUN cd /opt/torch && echo /opt/torch >"$(echo /opt/venv/lib/python3*/site-packages)/torch.pth" \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && rm -rf bin share isympy.py __pycache__ torch/include torch/share torch/test functorch \
        torch/lib/*_test.so torch/lib/libaoti_custom_ops.so torch/lib/libbackend_with_compiler.so \
        markdown_it mdurl pygments rich shellingham typer \
    && find transformers/models -mindepth 2 -type f ! -path '*/auto/*' -regextype posix-extended \
        -regex '.*/(convert|modular|processing|(image|video)_processing|feature_extraction|tokenization)_[^/]*' -delete \
    && find . -type d \( -name tests -o -name include \) -prune -exec rm -rf {} + \
    && find . -type f \( -name '*.pyi' -o -name '*.a' -o -name '*.h' -o -path '*.dist-info/RECORD' \) -delete \
    && strip --strip-unneeded torch/lib/libtorch_cpu.so torch/lib/libtorch_python.so
COPY handler/inference/native /tmp/native
RUN make --silent --jobs --directory /tmp/native OUT=/tmp && strip --strip-unneeded /tmp/libnative.so
COPY handler /var/task/handler
RUN mv /tmp/libnative.so /var/task/handler/inference/ && rm -rf /var/task/handler/inference/native
# Lambda's file system is read-only, so what is not compiled now is compiled at every cold start, which costs seconds.
# "unchecked-hash" trusts the bytecode whatever the files' times are after the image has been copied about.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /py312_ /opt/venv/lib /opt/torch /var/task


# What Lambda runs. It names no user, because Lambda runs every image as a user of its own, and `sam local` puts its emulator
# into the image by commands that run as the image's user and need root.
FROM ${BASE_IMAGE} AS lambda
# The base image comes without bytecode for the standard library.
RUN python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash -x '/(test|tests|idlelib|lib2to3|[a-z]+-packages)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# A snapshot may be taken of what runs here: see SnapStart in template.yaml.
LABEL com.amazonaws.lambda.feature.snapstart="Allow"
# pydantic would look through every installed package for plugins, which nobody has installed. numpy would start threads
# for its linear algebra, which nobody asks for here.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYDANTIC_DISABLE_PLUGINS=true OPENBLAS_NUM_THREADS=1
# First what every start reads, in the order in which it does, and in a layer of its own what almost none does.
COPY --from=build /opt/venv /opt/venv
COPY --from=build /var/task /var/task
COPY --from=build /opt/torch /opt/torch
WORKDIR /var/task
# The list of what a start reads: written by a start, whose model lies nowhere.
ENV READ_AHEAD=/opt/read-ahead.txt
RUN MODELS_BUCKET=none MODEL_NAME=none KEYS_TABLE=none AWS_REGION=us-east-1 AWS_ENDPOINT_URL_S3=http://127.0.0.1:9 \
        AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none python -m handler.readahead_list
ENTRYPOINT ["python", "-m", "awslambdaric"]
CMD ["handler.main.handler"]


# The same for whoever runs it elsewhere: as nobody.
FROM lambda
USER 65534
