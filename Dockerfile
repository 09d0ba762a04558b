# docker build -t image_classifier .
# docker run --rm -v "$PWD/runs:/app/runs" image_classifier train data=digits epochs=3
# docker run --rm -v "$PWD/runs:/app/runs" --entrypoint papermill image_classifier nbs/train.ipynb runs/train.ipynb -p epochs 3
#
# A server for a classifier that ic export has exported; no torch, no root, nothing written:
# docker build --target serve -t image_classifier_serve .
# docker run --rm --read-only -p 8000:8000 -v "$PWD/runs/first/classifier:/model:ro" image_classifier_serve
# With --workers, add --tmpfs /tmp: the processes count requests in files there.
FROM python:3.12-slim AS serve-build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/image_classifier
ENV PATH=/opt/image_classifier/bin:$PATH
WORKDIR /build
COPY requirements/serve.txt requirements/serve.txt
RUN pip install --require-hashes -r requirements/serve.txt
COPY . .
RUN pip install --no-deps . && pip uninstall --yes pip

FROM python:3.12-slim AS serve

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

FROM python:3.12-slim AS build

# Where torch comes from; empty for PyPI's build with CUDA: --build-arg TORCH_INDEX=
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/image_classifier
ENV PATH=/opt/image_classifier/bin:$PATH
# No version is pinned here: settings.ini has the floors, and the second install holds torch to them too.
# hadolint ignore=DL3013
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch torchvision; fi
WORKDIR /build
COPY . .
# hadolint ignore=DL3013
RUN pip install '.[report,pretrained]'

FROM python:3.12-slim

LABEL org.opencontainers.image.title="image_classifier" \
      org.opencontainers.image.description="From labeled images to a classifier you can trust" \
      org.opencontainers.image.source="https://github.com/image-classifier/image_classifier" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/image_classifier /opt/image_classifier
COPY nbs/train.ipynb /app/nbs/train.ipynb
RUN useradd --uid 1000 --no-create-home --home-dir /tmp user && mkdir /app/runs && chown user /app/runs
# A home that anyone may write to, so that `docker run --user "$(id -u)"` works as well.
ENV PATH=/opt/image_classifier/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /app
# A command that ends has no health to check.
HEALTHCHECK NONE
ENTRYPOINT ["ic"]
CMD ["--help"]
