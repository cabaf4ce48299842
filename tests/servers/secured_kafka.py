"""Apache Kafka with ACLs and listeners that ask who one is: SASL_SSL with SCRAM users, SSL with client certificates.

Its plain listener is for the node itself and for a test's own preparations: who comes there may do anything.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from akasha_stream.embedded import KafkaServer
from akasha_stream.embedded.java import find_java
from akasha_stream.embedded.kafka_config import broker_properties
from akasha_stream.embedded.kafka_jars import kafka_jars
from akasha_stream.errors import ServerStartError
from tests.servers.availability import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
WORKER_PASSWORD = "worker-secret-8731"
TEAM_PASSWORD = "team-secret-5209"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, a server's pair for localhost and 127.0.0.1, and a client's."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @classmethod
    def make(cls, folder: Path, client: str = "worker") -> Certificates:
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        made = cls(*(folder / name for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")))
        authority.cert_pem.write_to_path(made.ca)
        server = authority.issue_cert("localhost", "127.0.0.1")
        server.private_key_pem.write_to_path(made.server_key)
        made.server.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
        ours = authority.issue_cert(f"{client}@example.org", common_name=client)
        ours.private_key_pem.write_to_path(made.client_key)
        made.client.write_bytes(b"".join(blob.bytes() for blob in ours.cert_chain_pems))
        return made


class SecuredKafka(KafkaServer):
    """Users: worker and team-a, with the passwords above. Nobody may do anything until an ACL says so."""

    ports_needed: ClassVar[int] = 4
    certificates: Certificates

    @classmethod
    def make(cls, certificates: Certificates) -> SecuredKafka:
        java = find_java()
        server = cls(java, kafka_jars(java), None, port=0, heap_mb=512, properties={})
        server.certificates = certificates
        return server._launch()

    @property
    def sasl_ssl(self) -> str:
        return f"localhost:{self._ports[2]}"

    @property
    def mutual_tls(self) -> str:
        return f"localhost:{self._ports[3]}"

    def prepare(self) -> None:
        plain = broker_properties(self.node, self.cluster())
        listeners = f"SASL_SSL://{self.sasl_ssl},SSL://{self.mutual_tls}"
        # One file with the pair, and the key as PKCS#8, as Kafka wants it.
        pair = self.data_dir / "pair.pem"
        key = load_pem_private_key(self.certificates.server_key.read_bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pair.write_bytes(pkcs8 + self.certificates.server.read_bytes())
        self._properties = {
            "listeners": f"{plain['listeners']},{listeners}",
            "advertised.listeners": f"{plain['advertised.listeners']},{listeners}",
            "listener.security.protocol.map": f"{plain['listener.security.protocol.map']},SASL_SSL:SASL_SSL,SSL:SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
            **{
                f"listener.name.sasl_ssl.{mechanism.lower()}.sasl.jaas.config": SCRAM_LOGIN
                for mechanism in ("SCRAM-SHA-512", "SCRAM-SHA-256")
            },
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(pair),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.certificates.ca),
            "listener.name.ssl.ssl.client.auth": "required",
            # O=trustme v1.2.1,OU=…,CN=worker → User:worker
            "listener.name.ssl.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            # It lets who failed wait, so that one can't try passwords; the tests need not.
            "connection.failed.authentication.delay.ms": "0",
            "allow.everyone.if.no.acl.found": "false",
        }
        super().prepare()

    def format_options(self) -> list[str]:
        # So that the users are there at the first start.
        return [
            f"--add-scram=SCRAM-SHA-512=[name=worker,password={WORKER_PASSWORD}]",
            f"--add-scram=SCRAM-SHA-256=[name=worker,password={WORKER_PASSWORD}]",
            f"--add-scram=SCRAM-SHA-512=[name=team-a,password={TEAM_PASSWORD}]",
        ]

    def tool(self, main: str, arguments: Sequence[str]) -> str:
        """What a console tool of Kafka prints. Fails where it does."""
        done = subprocess.run(
            [*self._java(heap_mb=128, main=main), *arguments],
            cwd=self.data_dir,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def secured_kafka(certificates: Certificates) -> Iterator[SecuredKafka]:
    """One for the whole run. Tests that use it carry the marker `kafka`, and xdist_group `secured_kafka`."""
    try:
        server = SecuredKafka.make(certificates)
    except ServerStartError as error:
        unavailable(f"no Apache Kafka: {error}")
    yield server
    server.stop()
