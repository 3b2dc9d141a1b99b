"""AWS without Amazon: moto answers, and each of its instances is a host of tests/cluster/hosts.py.

Both live in this process: a call that launches instances starts hosts, one that terminates them
cuts their power, and all of it ends with the process.
"""

import datetime
import json
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from tests.cluster.hosts import Host, Hosts

REGION = "us-west-2"
# In the network that moto's instances have, where it gives none an address.
LAPTOP = "172.31.255.1"
ENDPOINT = "172.31.255.254"
METADATA = "169.254.169.254"  # where an instance asks who it is
USER = "ubuntu"
PROFILES = ("shapesweep-head", "shapesweep-worker")
# Of a person; instances have none but what their profile gives them.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "a-key-of-nobody",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-nobody",
    "AWS_ENDPOINT_URL": f"http://{ENDPOINT}",
}


class Cloud:
    """The cloud; ``close`` ends its servers, and ``hosts`` its machines.

    Args:
        hosts: their network, which has the provider's addresses too.
        install: puts the image's files into a host's home.
        bucket: made at once, as are the instance profiles.
        sold_out: a type of which there is no instance to be had.
    """

    def __init__(
        self, hosts: Hosts, install: Callable[[Host], None], bucket: str, sold_out: str
    ) -> None:
        self._hosts = hosts
        self._sold_out = sold_out
        self.refused = 0
        self._install = install
        self._profiles: dict[str, str] = {}  # moto keeps that of the first of several only
        self._ec2 = ec2_backends[DEFAULT_ACCOUNT_ID][REGION]
        iam = iam_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for profile in PROFILES:
            iam.create_instance_profile(profile, path="/", role_names=[])
        self._bucket = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(bucket, REGION)
        # One thread, for as long as the cloud is there: hosts end with the one that started them.
        self._power = ThreadPoolExecutor(1)
        self._switched: list[Future[None]] = []
        self._patch = pytest.MonkeyPatch()
        self._follow_moto()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # else a line for each call
        api = DomainDispatcherApplication(create_backend_app)
        self._servers = [self._serve(ENDPOINT, api), self._serve(METADATA, self._metadata)]

    @property
    def instances(self) -> list[Any]:
        """All that were ever launched, as moto has them, in this order."""
        reservations = self._ec2.reservations.values()
        return [instance for reservation in reservations for instance in reservation.instances]

    @property
    def running(self) -> list[Any]:
        return [instance for instance in self.instances if instance.state == "running"]

    def host(self, instance: Any) -> Host:
        """Returns the host that an instance is."""
        return self._hosts[_name(instance)]

    def profile(self, instance: Any) -> str:
        """Returns the name of an instance's profile."""
        return self._profiles[instance.id]

    def interrupt(self, instance: Any) -> None:
        """Takes a spot instance back, with no notice."""
        self._ec2.terminate_instances([instance.id])

    def names_in_bucket(self) -> list[str]:
        """Returns the names of all that is in the bucket."""
        return list(self._bucket.keys)

    def close(self) -> None:
        """Ends the servers; raises what went wrong when hosts were switched on and off."""
        self._patch.undo()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._power.shutdown()
        for done in self._switched:
            done.result()

    def _follow_moto(self) -> None:
        run, terminate = self._ec2.run_instances, self._ec2.terminate_instances
        get = InstanceResponse._get_param

        def run_and_start(*arguments: Any, iam_instance_profile_name: str, **more: Any) -> Any:
            if more["instance_type"] == self._sold_out:
                self.refused += 1
                raise EC2ClientError("InsufficientInstanceCapacity", "There is none of this type.")
            profile = {"iam_instance_profile_name": iam_instance_profile_name}
            reservation = run(*arguments, **profile, **more)
            for instance in reservation.instances:
                self._profiles[instance.id] = iam_instance_profile_name
            self._switch(self._start, reservation.instances)
            return reservation

        def terminate_and_cut(ids: list[str]) -> Any:
            terminated = terminate(ids)
            self._switch(self._cut, [instance for instance, _ in terminated])
            return terminated

        def get_most(response: Any, name: str, *arguments: Any, **more: Any) -> Any:
            """EC2 launches the most that are asked for; moto launches the least."""
            return get(response, "MaxCount" if name == "MinCount" else name, *arguments, **more)

        self._patch.setattr(self._ec2, "run_instances", run_and_start)
        self._patch.setattr(self._ec2, "terminate_instances", terminate_and_cut)
        self._patch.setattr(InstanceResponse, "_get_param", get_most)

    def _switch(self, how: Callable[[Any], None], instances: Iterable[Any]) -> None:
        self._switched += [self._power.submit(how, instance) for instance in instances]

    def _start(self, instance: Any) -> None:
        addresses = {"address": instance.private_ip, "public": instance.public_ip}
        host = self._hosts.make(_name(instance), user=USER, **addresses)
        for key in (host.home / ".ssh").iterdir():
            key.unlink()
        key = self._ec2.key_pairs[instance.key_name].public_key
        (host.home / ".ssh" / "authorized_keys").write_text(key)
        self._install(host)
        self._hosts.switch_on(host.name)

    def _cut(self, instance: Any) -> None:
        if self.host(instance).is_on:
            self._hosts.cut(_name(instance))

    def _serve(self, address: str, app: Any) -> Any:
        with self._hosts.listen(address, 80) as listening:
            server = make_server(
                address,
                80,
                app,
                threaded=True,
                request_handler=MotoRequestHandler,
                fd=listening.fileno(),
            )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def _metadata(self, environ: dict[str, Any], respond: Callable[..., Any]) -> list[bytes]:
        """Tells the instance that asks its place and the keys that its profile gives it."""
        (asking,) = (i for i in self.running if i.private_ip == environ["REMOTE_ADDR"])
        profile = self.profile(asking)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
        keys = {
            "Code": "Success",
            "AccessKeyId": profile,
            "SecretAccessKey": "a-secret-of-nobody",
            "Token": "a-token",
            "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        answers = {
            "api/token": "a-token",
            "meta-data/iam/security-credentials": profile,
            f"meta-data/iam/security-credentials/{profile}": json.dumps(keys),
            "meta-data/placement/availability-zone": asking.placement.zone,
        }
        asked = environ["PATH_INFO"].removeprefix("/latest/").rstrip("/")
        answer = answers.get(asked, "").encode()
        lives = ("X-aws-ec2-metadata-token-ttl-seconds", "21600")
        length = ("Content-Length", str(len(answer)))
        respond("200 OK" if answer else "404 Not Found", [lives, length])
        return [answer]


def _name(instance: Any) -> str:
    """Returns the name of an instance's host: short enough for a network device."""
    return str(instance.id[:14])
