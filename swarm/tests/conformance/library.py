"""Drives the Swarm API with docker-py, a client that is not Docker's own: prints one line a step, and ends with 0 when all held."""
import io
import os
import socket
import sys
import tarfile
import time

import docker

IMAGE = sys.argv[1]


def step(name):
    print(name, flush=True)


def main():
    tls = docker.tls.TLSConfig(
        client_cert=(os.environ["DOCKER_CERT_PATH"] + "/cert.pem", os.environ["DOCKER_CERT_PATH"] + "/key.pem"),
        ca_cert=os.environ["DOCKER_CERT_PATH"] + "/ca.pem", verify=True)
    client = docker.DockerClient(base_url=os.environ["DOCKER_HOST"], tls=tls, version="auto", timeout=60)
    assert client.ping()
    assert client.version()["Components"], client.version()
    assert client.info()["Name"] == "node-1"
    step("talks")
    events = client.events(decode=True, filters={"type": "container"})
    web = client.containers.run(IMAGE, ["sh", "-c", "for i in $(seq 1 500); do echo line $i; done; exec sleep 1000"], detach=True,
                                name="web", environment=["constraint:node==node-2"], labels={"a": "b"}, ports={"80/tcp": None})
    seen = []
    for event in events:
        seen.append(event["Action"])
        if event["Action"] == "start":
            assert event["Actor"]["Attributes"]["name"] == "web", event
            break
    events.close()
    assert seen[0] == "create", seen
    step("runs, with events")
    assert client.containers.get("web").id == client.containers.get(web.short_id).id == client.containers.get("node-2/web").id
    assert [one.id for one in client.containers.list(filters={"label": "a=b"})] == [web.id]
    assert web.attrs["State"]["Running"] or web.reload() is None and web.attrs["State"]["Running"]
    step("finds")
    code, output = web.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert (code, output) == (4, (b"out\n", b"err\n")), (code, output)
    taken = client.api.exec_create(web.id, ["cat"], stdin=True)
    stream = client.api.exec_start(taken["Id"], socket=True)
    raw = getattr(stream, "_sock", stream)
    raw.sendall(b"through and back\n")
    header = raw.recv(8)
    assert header[0] == 1, header
    assert raw.recv(100) == b"through and back\n"
    raw.close()
    step("executes")
    for _ in range(100):
        if web.logs().count(b"\n") == 500:
            break
        time.sleep(0.1)
    assert web.logs(tail=1) == b"line 500\n", web.logs(tail=1)
    lines = []
    for line in web.logs(stream=True, follow=True):
        lines.append(line)
        if len(lines) == 500:
            break
    assert lines == [b"line %d\n" % number for number in range(1, 501)]
    step("logs")
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("note")
        member.size = 1 << 20
        archive.addfile(member, io.BytesIO(b"x" * member.size))
    assert web.put_archive("/tmp", data.getvalue())
    chunks, about = web.get_archive("/tmp/note")
    assert about["name"] == "note" and about["size"] == 1 << 20, about
    assert sum(len(chunk) for chunk in chunks) > 1 << 20
    step("copies")
    assert next(web.stats(decode=True, stream=True))["id"] == web.id
    assert any("sleep" in " ".join(row) for row in web.top()["Processes"])
    web.pause()
    web.unpause()
    web.rename("other")
    web.update(cpu_shares=300)
    web.reload()
    assert web.attrs["HostConfig"]["CpuShares"] == 300 and web.attrs["Node"]["Name"] == "node-2"
    web.stop(timeout=0)
    assert web.wait()["StatusCode"] == 137
    web.remove()
    try:
        client.containers.get("other")
        raise AssertionError("it is gone")
    except docker.errors.NotFound as error:
        assert "No such container: other" in error.explanation, error.explanation
    step("ends")
    built, log = client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nCMD echo built\n".encode()), tag="hcl/py:1")
    assert client.containers.run("hcl/py:1", remove=True) == b"built\n"
    saved = b"".join(built.save(named=True))
    client.images.remove("hcl/py:1")
    assert client.images.load(saved)[0].tags == ["hcl/py:1"]
    client.images.remove("hcl/py:1")
    step("builds")
    network = client.networks.create("demo", driver="overlay")
    network.reload()
    assert network.attrs["Attachable"] and network.attrs["Driver"] == "overlay", network.attrs
    network.remove()
    volume = client.volumes.create("data")
    volume.remove()
    step("networks and volumes")
    service = client.services.create(IMAGE, ["sleep", "1000"], name="web", mode=docker.types.ServiceMode("replicated", 2))
    for _ in range(200):
        if sum(task["Status"]["State"] == "running" for task in service.tasks()) == 2:
            break
        time.sleep(0.1)
    else:
        raise AssertionError(service.tasks())
    service.remove()
    assert len(client.nodes.list()) == 3
    step("serves")


main()
