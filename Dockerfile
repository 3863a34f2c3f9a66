# The images of docker-compose.yml, a target each: kit, coordinator, monitor, dashboard, client,
# client-torch, keyholder.
#
#   docker build --target coordinator .
#   docker buildx build --target client --platform linux/amd64,linux/arm64,linux/arm/v7 \
#     --tag REGISTRY/fedmqtt-client --push .        # docs/containers.md says what that needs
#
# All are small, run as user 10001 and write nothing outside /federation and /tmp. What they install
# has hashes: requirements/, made by `make lock`.

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/fedmqtt/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Ids above 10000 do not meet a user of the host by accident. A new volume takes the owner of the
# folder that it is mounted over.
RUN groupadd --gid 10001 fedmqtt \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /federation fedmqtt \
 && install -d -o 10001 -g 10001 /federation \
 && install -d -o 10001 -g 10001 -m 0700 /federation/kit /federation/broker /federation/broker-data \
    /federation/accounts /federation/accounts/coordinator /federation/accounts/monitor \
    /federation/accounts/operator \
    /federation/accounts/demo /federation/accounts/kh-a /federation/accounts/kh-b \
    /federation/accounts/kh-c /federation/runs /federation/state
WORKDIR /federation


# ---------------------------------------------------------------------------- what is installed

FROM python:3.11-slim-bookworm AS tools
ARG TARGETARCH
# For 32-bit ARM there are no wheels of numpy, msgpack, msgspec, zstandard, cffi and PyNaCl: pip
# compiles them, which takes an hour under emulation. cffi needs libffi's headers; PyNaCl brings
# libsodium. Their sources have hashes; what pip compiles them with has none.
# hadolint ignore=DL3008
RUN if [ "$TARGETARCH" = arm ]; then \
      apt-get update && apt-get install -y --no-install-recommends build-essential libffi-dev \
      && rm -rf /var/lib/apt/lists/*; \
    fi
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/fedmqtt
WORKDIR /src

FROM tools AS wheel
COPY requirements/build.txt requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes --no-deps -r requirements/build.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

# First what changes seldom, then fedmqtt.
FROM tools AS kit-packages
COPY requirements/kit.txt requirements/
RUN /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/kit.txt
COPY --from=wheel /wheels /wheels
RUN /opt/fedmqtt/bin/pip install --no-deps /wheels/*.whl

FROM tools AS coordinator-packages
COPY requirements/coordinator.txt requirements/
RUN /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/coordinator.txt
COPY --from=wheel /wheels /wheels
RUN /opt/fedmqtt/bin/pip install --no-deps /wheels/*.whl

FROM tools AS monitor-packages
COPY requirements/monitor.txt requirements/
RUN /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/monitor.txt
COPY --from=wheel /wheels /wheels
RUN /opt/fedmqtt/bin/pip install --no-deps /wheels/*.whl

FROM tools AS dashboard-packages
COPY requirements/dashboard.txt requirements/
RUN /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/dashboard.txt
COPY --from=wheel /wheels /wheels
RUN /opt/fedmqtt/bin/pip install --no-deps /wheels/*.whl

FROM tools AS client-packages
COPY requirements/client.txt requirements/
RUN /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/client.txt
COPY --from=wheel /wheels /wheels
RUN /opt/fedmqtt/bin/pip install --no-deps /wheels/*.whl

# Torch has builds of other bytes for each kind of machine, so it is taken by its version. On amd64 the
# one that pip finds by itself wants CUDA: name an index of CPU builds, or the import here fails.
#   --build-arg PIP_TORCH_ARGS="--index-url <address of a CPU wheel index>"
FROM tools AS client-torch-packages
ARG PIP_TORCH_ARGS=
COPY requirements/client.txt requirements/torch-needs.txt requirements/
COPY constraints.txt .
# The argument is several words.
# hadolint ignore=SC2086
RUN /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/client.txt \
 && /opt/fedmqtt/bin/pip install --require-hashes --no-deps -r requirements/torch-needs.txt \
 && /opt/fedmqtt/bin/pip install --no-deps $PIP_TORCH_ARGS "$(grep '^torch==' constraints.txt)" \
 && /opt/fedmqtt/bin/python -c "import torch"
COPY --from=wheel /wheels /wheels
RUN /opt/fedmqtt/bin/pip install --no-deps /wheels/*.whl


# ----------------------------------------------------------------------------------- the images

# Makes accounts, and is the only one that holds the CA's key.
FROM base AS kit
COPY --from=kit-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["python", "-m", "broker_config.container_kit"]
CMD ["--help"]

# Without torch: a coordinator never needs it, where the first model is made without or given.
FROM base AS coordinator
COPY --from=coordinator-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["fedmqtt"]
CMD ["coordinator", "--help"]

FROM base AS monitor
COPY --from=monitor-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["fedmqtt"]
CMD ["watch", "--help"]

# The same in a browser.
FROM base AS dashboard
COPY --from=dashboard-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["fedmqtt"]
CMD ["dashboard", "--help"]

# Trains tasks that need no torch, as learning_tasks/linear.py.
FROM base AS client
COPY --from=client-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["fedmqtt"]
CMD ["client", "--help"]

# Opens sums of masked answers: docker-compose.keyholders.yml.
FROM base AS keyholder
COPY --from=client-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["fedmqtt"]
CMD ["keyholder", "--help"]

# For amd64 and arm64: there is no torch for 32-bit ARM.
FROM base AS client-torch
COPY --from=client-torch-packages /opt/fedmqtt /opt/fedmqtt
USER 10001:10001
ENTRYPOINT ["fedmqtt"]
CMD ["client", "--help"]
