# Three images, each without root and able to run on a read-only file system. nbs/howto/containers.ipynb explains them.
#
# docker build -t image_classifier .
# docker run --rm --read-only --tmpfs /tmp -v "$PWD/runs:/app/runs" image_classifier report data=digits epochs=3
# docker run --rm -v "$PWD/runs:/app/runs" --entrypoint papermill image_classifier nbs/train.ipynb runs/train.ipynb -p epochs 3
#
# JupyterLab on the notebooks; its log shows the address with the token:
# docker build --target lab -t image_classifier_lab .
# docker run --rm -p 127.0.0.1:8888:8888 image_classifier_lab
#
# A server for a classifier that ic export has exported; no torch, no root, nothing written:
# docker build --target serve -t image_classifier_serve .
# docker run --rm --read-only -p 127.0.0.1:8000:8000 -v "$PWD/runs/first/classifier:/model:ro" image_classifier_serve
# With --workers, add --tmpfs /tmp: the processes count requests in files there.
# Written out, because Dependabot does not read a build argument here.
FROM python:3.12-slim AS base

FROM base AS serve-build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/image_classifier
ENV PATH=/opt/image_classifier/bin:$PATH
WORKDIR /build
COPY requirements/serve.txt requirements/serve.txt
RUN pip install --require-hashes -r requirements/serve.txt
COPY LICENSE README.md settings.ini setup.py ./
COPY image_classifier image_classifier
RUN pip install --no-deps --no-build-isolation . && pip uninstall --yes setuptools pip

FROM base AS serve

LABEL org.opencontainers.image.title="image_classifier server" \
      org.opencontainers.image.source="https://github.com/image-classifier/image_classifier" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=serve-build /opt/image_classifier /opt/image_classifier
RUN useradd --uid 1000 --no-create-home --home-dir /tmp user
ENV PATH=/opt/image_classifier/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["ic", "serve"]
CMD ["/model", "--host", "0.0.0.0"]

FROM base AS build

# Where torch comes from; empty for PyPI's build with CUDA: --build-arg TORCH_INDEX=
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# All other packages, by version and hash: --build-arg LOCK=requirements/lab.txt holds all extras, also the export to ONNX.
ARG LOCK=requirements/train.txt
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/image_classifier
ENV PATH=/opt/image_classifier/bin:$PATH
WORKDIR /build
COPY requirements requirements
# torch.in has versions only: each index of PyTorch has other files of the same version. torch.txt has the hashes of PyPI's.
RUN pip install --no-compile --no-deps --require-hashes -r "$LOCK" \
    && if [ -n "$TORCH_INDEX" ]; then pip install --no-compile --no-deps --index-url "$TORCH_INDEX" -r requirements/torch.in; \
       else pip install --no-compile --no-deps --require-hashes -r requirements/torch.txt; fi
COPY LICENSE README.md settings.ini setup.py ./
COPY image_classifier image_classifier
# The package's report notebooks are links to these.
COPY nbs/train.ipynb nbs/compare.ipynb nbs/
# What goes again: tests, a compiler of protocol buffers, and headers, for which no image has a compiler.
RUN pip install --no-compile --no-deps --no-build-isolation . && pip check \
    && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -rf "$site"/torch/include "$site"/torch/test "$site"/torch/bin/test_* "$site"/torch/bin/protoc* \
    && find "$site"/numpy "$site"/scipy "$site"/sklearn "$site"/sympy "$site"/networkx "$site"/matplotlib -type d -name tests -prune -exec rm -rf {} +
# Only what a report imports is compiled: compiled files of everything would be 150 MB. It shows that a report works, too.
WORKDIR /tmp/first
RUN ic report data=digits epochs=1 --out run

FROM base AS runtime

LABEL org.opencontainers.image.title="image_classifier" \
      org.opencontainers.image.description="From labeled images to a classifier you can trust" \
      org.opencontainers.image.source="https://github.com/image-classifier/image_classifier" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/image_classifier /opt/image_classifier
RUN useradd --uid 1000 --no-create-home --home-dir /tmp user \
    && mkdir -p /app/runs /app/data && chown user: /app/runs /app/data
# A home that anyone may write to, so that `docker run --user "$(id -u)"` works as well.
ENV PATH=/opt/image_classifier/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /app

FROM runtime AS lab

LABEL org.opencontainers.image.title="image_classifier lab"
USER 0
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY requirements/lab.txt requirements/lab.txt
COPY LICENSE README.md settings.ini setup.py _quarto.yml ./
COPY image_classifier image_classifier
COPY --chown=1000:1000 nbs nbs
# JupyterLab would ask a server of its project for news. The package is the folder /app: a clone mounted there is the one imported.
# Pandoc (155 MB, GPL) serves the tests of the pages alone.
RUN pip install --no-cache-dir --no-compile --no-deps --require-hashes -r requirements/lab.txt \
    && pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --editable . && pip check \
    && pip uninstall --yes pypandoc-binary \
    && jupyter labextension disable --level=sys_prefix '@jupyterlab/apputils-extension:announcements'
ENV JUPYTER_PREFER_ENV_PATH=1
USER 1000
EXPOSE 8888
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8888/api', timeout=4)"]
# A new token at every start; nothing here sets a password.
ENTRYPOINT ["jupyter", "lab"]
CMD ["--ip=0.0.0.0", "--no-browser", "--LabApp.default_url=/lab/tree/nbs/tutorials/getting_started.ipynb"]

FROM runtime AS train

COPY nbs/train.ipynb nbs/compare.ipynb nbs/
# A command that ends has no health to check.
HEALTHCHECK NONE
ENTRYPOINT ["ic"]
CMD ["--help"]
