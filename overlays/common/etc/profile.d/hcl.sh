# The cluster as one Docker endpoint:
#
#     export DOCKER_HOST=tcp://master:2378
#
# and `docker` and `docker-compose` are about all nodes; `unset DOCKER_HOST`, and they are about this one again. These two variables are
# for the former. The client would take them for the latter as well, and look for TLS where there is none, but for the context `node` that
# /etc/skel gives each user: who has no such context, or has left it, keeps the client as Debian has it.
if [ -r /etc/hcl/docker/key.pem ] && grep -qs '"currentContext": *"node"' "${DOCKER_CONFIG:-$HOME/.docker}/config.json"; then
    export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=/etc/hcl/docker
fi
