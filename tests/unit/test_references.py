from __future__ import annotations

import pytest

from kairay.errors import InputError
from kairay.hosts import normalise_host, why_internal
from kairay.references import DataUrl, ImageReference

SHA = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("ubuntu", "docker.io/library/ubuntu:latest"),
        ("index.docker.io/ubuntu:24.04", "docker.io/library/ubuntu:24.04"),
        ("team/model:1", "docker.io/team/model:1"),
        ("contoso.azurecr.io/phi-3-tuned:0.0.1", "contoso.azurecr.io/phi-3-tuned:0.0.1"),
        ("Contoso.azurecr.io/a/b__c/d.e", "contoso.azurecr.io/a/b__c/d.e:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        ("[::1]:5000/x:y", "[::1]:5000/x:y"),
        (f"ghcr.io/x@{SHA}", f"ghcr.io/x@{SHA}"),
        (f"ghcr.io/x:v1@{SHA}", f"ghcr.io/x:v1@{SHA}"),
    ],
)
def test_an_image_is_read_with_its_defaults_written_out(text: str, full: str) -> None:
    image = ImageReference.parse(text)
    assert str(image) == full
    assert ImageReference.parse(full) == image


def test_an_image_has_four_parts() -> None:
    image = ImageReference.parse(f"ghcr.io:443/a/b:v1@{SHA}")
    assert (image.registry, image.repository, image.tag, image.digest) == ("ghcr.io:443", "a/b", "v1", SHA)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("contoso.azurecr.io/Phi-3:1", "image repositories are lower case; write phi-3 instead of Phi-3"),
        ("Contoso/phi", "image repositories are lower case"),
        ("ACR_REPO_HERE.azurecr.io/IMAGE_NAME_HERE:0.0.1", "image repositories are lower case"),
        ("ACR_REPO_HERE.azurecr.io/x:1", "is not a registry"),
        ("host:99999/x", "is not a registry"),
        ("https://ghcr.io/x:1", "write ghcr.io/x:1"),
        ("oci:/data/layout", "volumeSource"),
        ("", "registry/name:tag"),
        ("ghcr.io/", "registry/name:tag"),
        ("ghcr.io//x", "registry/name:tag"),
        ("ghcr.io/x y", "registry/name:tag"),
        ("ghcr.io/-x", "registry/name:tag"),
        ("ghcr.io/x:", "is not a tag"),
        ("ghcr.io/x:-1", "is not a tag"),
        ("ghcr.io/x:" + "1" * 129, "is not a tag"),
        ("ghcr.io/x@sha256:abc", "is not a digest"),
        ("ghcr.io/" + "x" * 255, "at most 255"),
    ],
)
def test_a_broken_image_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        ImageReference.parse(text)
    assert remedy in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/datasets/x/resolve/main/a.parquet?download=true",
        "http://example.com:8080/a.jsonl",
        "HTTPS://EXAMPLE.COM./a",
        "https://8.8.8.8/a",
        "https://[2606:4700:4700::1111]/a",
        "https://bücher.example/a",
        "https://127.0.0.1.example.com/a",
        "https://mylocalhost/a",
    ],
)
def test_an_address_on_the_outside_is_taken_as_written(text: str) -> None:
    assert str(DataUrl.parse(text)) == text


def test_the_host_of_an_address_is_normalised() -> None:
    assert DataUrl.parse("https://EXAMPLE.com.:8443/a").host == "example.com"
    assert DataUrl.parse("https://bücher.example/").host == "xn--bcher-kva.example"


INSIDE = [
    ("localhost", "this machine"),
    ("LOCALHOST.", "this machine"),
    ("a.localhost", "this machine"),
    ("127.0.0.1", "this machine"),
    ("127.1", "this machine"),
    ("2130706433", "this machine"),
    ("0x7f000001", "this machine"),
    ("0x7f.0.0.1", "this machine"),
    ("0177.0.0.1", "this machine"),
    ("0", "this machine"),
    ("[::1]", "this machine"),
    ("[::]", "this machine"),
    ("[::ffff:127.0.0.1]", "this machine"),
    ("[::127.0.0.1]", "this machine"),
    ("[64:ff9b::7f00:1]", "this machine"),
    ("[2002:7f00:1::]", "this machine"),
    ("①②⑦.0.0.1", "this machine"),
    ("127。0。0。1", "this machine"),
    ("10.1.2.3", "private"),
    ("172.16.0.1", "private"),
    ("192.168.1.1", "private"),
    ("192.168.257", "private"),
    ("100.64.0.1", "private"),
    ("[fc00::1]", "private"),
    ("[::ffff:a00:1]", "private"),
    ("169.254.1.1", "link-local"),
    ("[fe80::1]", "link-local"),
    ("[fe80::1%25eth0]", "link-local"),
    ("224.0.0.1", "multicast"),
    ("169.254.169.254", "metadata"),
    ("0xA9FEA9FE", "metadata"),
    ("168.63.129.16", "metadata"),
    ("100.100.100.200", "metadata"),
    ("[fd00:ec2::254]", "metadata"),
    ("metadata.google.internal", "metadata"),
    ("999.1.1.1", "no address"),
    ("1.2.3.4.5", "no address"),
    ("08.8.8.8", "no address"),
]


@pytest.mark.parametrize(("host", "kind"), INSIDE)
def test_no_spelling_of_the_inside_gets_through(host: str, kind: str) -> None:
    with pytest.raises(InputError) as caught:
        DataUrl.parse(f"http://{host}:8080/a")
    assert kind in caught.value.message
    assert "operator" in caught.value.message


def test_an_operator_may_open_a_host_by_name() -> None:
    allowed = ("Data.internal.", "127.0.0.1")
    assert DataUrl.parse("http://127.0.0.1:8000/x", allowed_hosts=allowed).host == "127.0.0.1"
    assert DataUrl.parse("http://data.internal/x", allowed_hosts=allowed).host == "data.internal"
    with pytest.raises(InputError):
        DataUrl.parse("http://127.0.0.2/x", allowed_hosts=allowed)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("ftp://example.com/a", "found ftp"),
        ("file:///etc/passwd", "volumeSource"),
        ("data/train.jsonl", "found no scheme"),
        ("https:///a", "is not a host"),
        ("https:a", "is not a host"),
        ("https://exa mple.com/a", "no spaces"),
        ("https://example.com\\@127.0.0.1/", "backslashes"),
        ("https://example.com/\n", "no spaces"),
        ("https://me:secret@example.com/a", "no user or password"),
        ("https://%3127.0.0.1/", "is not a host"),
        ("https://[::1/a", "not an address"),
        ("https://example.com:99999/", "not an address"),
        ("https://example.com/" + "a" * 3000, "2048"),
    ],
)
def test_a_broken_address_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        DataUrl.parse(text)
    assert remedy in caught.value.message
    assert "secret" not in caught.value.message


def test_a_host_may_be_asked_about_by_itself() -> None:
    assert why_internal(normalise_host("example.com")) is None
    assert why_internal(normalise_host("10.0.0.1")) == "a private address"
