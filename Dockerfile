# The coordinator as an image: small, without torch, and not root. docker-compose.yml runs it beside a
# broker.

FROM python:3.11-slim

# Ids above 10000 do not meet a user of the host by accident.
RUN useradd --uid 10001 --create-home fedmqtt \
 && install -d -o fedmqtt -g fedmqtt /federation /federation/runs

WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[coordinator]'

USER fedmqtt
# Models and history land in ./runs: mount a volume there to keep them.
WORKDIR /federation
ENTRYPOINT ["fedmqtt"]
CMD ["--help"]
