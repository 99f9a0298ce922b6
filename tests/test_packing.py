"""A packed run: the same bytes from the same folder, back byte for byte, and nothing else than what was packed."""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
from urllib.parse import unquote

import pytest
from click.testing import CliRunner
from relmap.cli.main import main
from relmap.errors import InputError
from relmap.evidence.packed import ABOUT, CRATE, RECORDS, SUMS, record_of
from relmap.evidence.packing import pack
from relmap.evidence.restoring import restore
from relmap.job.files import write_json
from relmap.job.provenance import collect

CODE = {
    "Snakefile": "rule all:\n",
    "workflow/relmap/a.py": "A = 1\n",
    "workflow/scripts/score.py": "import relmap.a\n",
    "papers/clam/scripts/more.py": "",
}
KEPT = {
    "config.yaml": "run: mine\nseed: 3\n",
    "index.html": "<p>",
    "provenance.json": json.dumps(
        {
            "versions": {"torch": "2"},
            "source": {"commit": "a" * 40, "modified": False},
            "machine": {"system": "Linux", "processor": "x", "cores": 2, "gpus": []},
        }
    ),
    "tables/t1.csv": "a,b\n",
    "scores/d/m/s.parquet": "scores",
    "maps/d/m/x.zarr/zarr.json": "{}",
    "maps/d/m/x.zarr/c/0": "chunk",
    "maps/d/m/x.json": "{}",
    "data/d.json": "{}",
    "models/d/m.json": "{}",
    "pictures/d/0.png": "png",
    "benchmarks/score.tsv": "s\n",
}
LEFT_OUT = {
    "data/d/1.jpg": "picture",
    "models/d/m.safetensors": "weights",
    "paper/layers/0.safetensors": "weights",
    "paper/layers/card.json": "{}",
    "logs/score.log": "/home/someone",
    "maps/d/m/x.zarr/.snakemake_timestamp": "",
    ".lock": "",
}
OUTPUTS = ("tables/t1.csv", "scores/d/m/s.parquet", "maps/d/m/x.zarr", "paper/layers")


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def record(root, output, inputs):
    path = root / record_of(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    sums = {name: "sha256:" + hashlib.sha256((root / name).read_bytes()).hexdigest() for name in inputs}
    known = {"input": [f"{root}/{name}" for name in inputs], "input_checksums": sums, "endtime": 1.8e9, "code": "x"}
    path.write_text(json.dumps({**known, "external_jobid": "17", "params": ["1"]}))


def finish(root, run):
    """A repository with a finished run."""
    write(root, CODE)
    write(root / "results" / run, KEPT | LEFT_OUT | {"config.yaml": f"run: {run}\nseed: 3\n"})
    for output in OUTPUTS:
        record(root, f"results/{run}/{output}", ["workflow/relmap/a.py"])


@pytest.fixture
def made(tmp_path):
    """A repository with a finished run, and an empty clone of it."""
    root, clone = tmp_path / "root", tmp_path / "clone"
    finish(root, "mine")
    write(clone, CODE)
    (clone / "results").mkdir()
    return root, clone


@pytest.fixture
def archive(made, tmp_path):
    pack(made[0] / "results/mine", tmp_path / "mine.tar.gz", made[0])
    return tmp_path / "mine.tar.gz"


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def members(archive):
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def rewrite(archive, files):
    with tarfile.open(archive, "w:gz") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


def summed(files):
    """The files with a list of sums that fits them."""
    own = {name: data for name, data in files.items() if name != SUMS}
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in own.items())
    return {**own, SUMS: lines.encode()}.items()


def test_the_same_folder_gives_the_same_bytes_and_all_of_it_comes_back(made, archive, tmp_path):
    root, clone = made
    later = time.time() + 100
    for path in (root / "results/mine").rglob("*"):
        os.utime(path, (later, later))
    other = tmp_path / "other.tar.gz"
    assert pack(root / "results/mine", other, root) == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert other.read_bytes() == archive.read_bytes()
    done = restore(archive, clone)
    assert done.folder == clone / "results/mine" and done.differing == ()
    found = content(done.folder)
    made_by = json.loads(found.pop("restored.json"))
    assert found == KEPT and made_by["commit"] == "a" * 40 and made_by["torch"] == "2"
    assert [path.name for path in (clone / "results").iterdir()] == ["mine"], "no room is left"
    records = {path.relative_to(clone).as_posix() for path in (clone / RECORDS).rglob("*") if path.is_file()}
    assert records == {str(record_of(f"results/mine/{output}")) for output in OUTPUTS}
    # Times are one, and later than the code's.
    times = {path.stat().st_mtime for path in done.folder.rglob("*")}
    assert len(times) == 1 and times.pop() > max((clone / path).stat().st_mtime for path in CODE)
    assert pack(done.folder, tmp_path / "again.tar.gz", clone), "a restored run can be packed"
    assert collect(done.folder, clone)["restored"]["archive"] == "mine.tar.gz"


def test_records_name_no_place_of_the_machine(made, archive):
    files = members(archive)
    assert not [name for name, data in files.items() if str(made[0]).encode() in data]
    known = json.loads(files[str(record_of("results/mine/tables/t1.csv"))])
    assert known["input"] == ["workflow/relmap/a.py"] and known["params"] == ["1"] and "external_jobid" not in known


@pytest.mark.parametrize("output", ["a", "results/demo/" + "long/" * 90 + "name.json"])
def test_records_lie_where_snakemake_looks_for_them(output, tmp_path):
    from snakemake.persistence.file import FilePersistence

    theirs = FilePersistence(path=tmp_path)._record_path(str(tmp_path), output)
    assert record_of(output).relative_to(RECORDS).as_posix() == os.path.relpath(theirs, tmp_path)
    assert all(len(part) <= 255 for part in record_of(output).parts)


def test_a_changed_byte_a_missing_file_and_an_extra_one_are_refused(made, archive):
    clone = made[1]
    whole = members(archive)
    name = "results/mine/tables/t1.csv"
    changed = {**whole, name: b"a,c\n"}
    missing = {path: data for path, data in whole.items() if path != name}
    unlisted = {**whole, "results/mine/more.csv": b""}
    for files, words in (
        (changed, rf"'{name}' has other bytes than were packed"),
        (missing, rf"'{name}' is missing"),
        (unlisted, "'results/mine/more.csv' should not be there"),
        ({**whole, "results/mine/data/d/": b""}, "should not be there|empty folder|cannot be extracted"),
        ({**whole, SUMS: whole[SUMS].replace(b"  ", b" ", 1)}, f"line 1 of {SUMS} is none"),
        ({**whole, SUMS: whole[SUMS] * 2}, f"line {len(whole)} of {SUMS} is none"),
        ({path: data for path, data in whole.items() if path != SUMS}, "is no packed run"),
    ):
        rewrite(archive, files.items())
        with pytest.raises(InputError, match=words) as caught:
            restore(archive, clone)
        assert "\n" not in str(caught.value)
        assert list((clone / "results").iterdir()) == [] and not (clone / ".snakemake").exists()


def test_a_flipped_bit_anywhere_is_refused(made, archive):
    clone, whole = made[1], archive.read_bytes()
    for place in range(10, len(whole), len(whole) // 40):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(InputError):
            restore(archive, clone)
    archive.write_bytes(whole[:-20])
    with pytest.raises(InputError, match="truncated"):
        restore(archive, clone)
    assert list((clone / "results").iterdir()) == []


def test_what_is_no_part_of_the_run_is_refused_though_its_sum_fits(made, archive):
    """Code, records of other outputs, other runs."""
    clone, whole = made[1], members(archive)
    others = (
        "Snakefile",
        "workflow/relmap/a.py",
        ".git/hooks/post-checkout",
        "results/other/a.csv",
        ".snakemake/conda/x",
    )
    for stray in (*others, str(record_of("results/other/a.csv"))):
        rewrite(archive, summed({**whole, stray: b"{}"}))
        with pytest.raises(InputError, match=rf"'{re.escape(stray)}' is no part of the run 'mine'"):
            restore(archive, clone)
    for about in ({"format": 2}, {"format": 1, "run": "../x"}, {"format": 1, "run": "mine", "code": []}, []):
        rewrite(archive, summed({**whole, ABOUT: json.dumps(about).encode()}))
        with pytest.raises(InputError, match=r"is of format|does not say of what run"):
            restore(archive, clone)
    for text in (b"[" * 10**6, b"1" * 5000, b"\xff"):
        rewrite(archive, summed({**whole, ABOUT: text}))
        with pytest.raises(InputError, match="not valid JSON"):
            restore(archive, clone)
    assert content(clone) == CODE


def test_what_snakemake_would_run_of_an_archive_is_refused(made, archive):
    """Snakemake evaluates a config that says so, and a config names files of Python."""
    clone, whole = made[1], members(archive)
    for config, words in (
        ("__use_yte__: true\nrun: mine\n", "unknown key `__use_yte__`"),
        ('{"run": "mine"}\n', "is not as relmap writes it"),
        ("run: mine\nextensions:\n- results/mine/tables/t1.csv\n", "`extensions` of config.yaml names results/mine"),
        ("run: mine\npapers:\n- ../x/results/mine\n", "`papers` of config.yaml names"),
        ("run: !!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
        ("- 1\n", "holds no keys"),
    ):
        rewrite(archive, summed({**whole, "results/mine/config.yaml": config.encode()}))
        with pytest.raises(InputError, match=words):
            restore(archive, clone)
    for name in ("rows.py", "paper/rules.smk", "a.so", "Snakefile"):
        rewrite(archive, summed({**whole, f"results/mine/{name}": b""}))
        with pytest.raises(InputError, match="a program"):
            restore(archive, clone)
    assert content(clone) == CODE


def test_an_archive_that_was_forged_whole_is_told_by_its_own_sum(made, archive):
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    whole = members(archive)
    rewrite(archive, summed({**whole, "results/mine/tables/t1.csv": b"forged"}))
    with pytest.raises(InputError, match=f"its SHA-256 is not {digest}"):
        restore(archive, made[1], sha256=digest)


def test_a_run_that_is_here_stays(made, archive):
    write(made[1], {"results/mine/tables/t1.csv": "own"})
    with pytest.raises(InputError, match="such a run is here already"):
        restore(archive, made[1])
    assert content(made[1] / "results") == {"mine/tables/t1.csv": "own"}
    shutil.rmtree(made[1] / "results/mine")
    write(made[1], {"results/mine/.lock": ""})
    assert restore(archive, made[1]).files == len(KEPT)


def test_other_code_is_named_and_asked_for(made, archive):
    clone = made[1]
    write(clone, {"workflow/relmap/a.py": "A = 2\n"})
    with pytest.raises(InputError, match=rf"\(workflow/relmap/a\.py\); `git checkout {'a' * 40}`, or .* --other-code"):
        restore(archive, clone)
    assert restore(archive, clone, other_code=True).differing == ("workflow/relmap/a.py",)
    known = json.loads((clone / record_of("results/mine/tables/t1.csv")).read_text())
    assert known["input"] is None and known["params"] == ["1"], "another config is noticed still"


def test_what_is_not_finished_or_not_its_codes_is_not_packed(made, tmp_path):
    root, to = made[0], tmp_path / "x.tar.gz"
    run = root / "results/mine"
    write(root, {"workflow/relmap/a.py": "A = 3\n"})
    with pytest.raises(InputError, match=r"mine.*: was made by another workflow/relmap/a\.py than lies here"):
        pack(run, to, root)
    write(root, CODE)
    with pytest.raises(InputError, match=r"ends with \.tar\.gz"):
        pack(run, tmp_path / "x.zip", root)
    with pytest.raises(InputError, match="a run is a folder of"):
        pack(tmp_path, to, root)
    (run / "tables/link.csv").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"link\.csv: is a link"):
        pack(run, to, root)
    (run / "tables/link.csv").unlink()
    write(run, {"tables/a\nb.csv": ""})
    with pytest.raises(InputError, match="has a line break"):
        pack(run, to, root)
    (run / "tables/a\nb.csv").unlink()
    (run / "index.html").unlink()
    with pytest.raises(InputError, match=r"index\.html: no such file; finish the run"):
        pack(run, to, root)
    write(run, KEPT)
    shutil.rmtree(root / ".snakemake")
    with pytest.raises(InputError, match="no records of the run"):
        pack(run, to, root)
    assert not to.exists()


def test_the_crate_follows_the_rules_of_ro_crate_1_1(archive):
    """https://w3id.org/ro/crate/1.1: descriptor, root, a flat graph, relative names, each reference resolved."""
    files = members(archive)
    crate = json.loads(files[CRATE])
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    graph = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(graph) == len(crate["@graph"]) and all("@type" in entity for entity in graph.values())
    descriptor, root = graph["ro-crate-metadata.json"], graph["./"]
    assert descriptor["@type"] == "CreativeWork" and descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert root["@type"] == "Dataset" and root["name"] and root["description"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", root["datePublished"])

    def references(value):
        if isinstance(value, list):
            for each in value:
                yield from references(each)
        elif isinstance(value, dict):
            assert set(value) == {"@id"}, "no entity inside another"
            yield value["@id"]

    named = {
        name
        for entity in graph.values()
        for key, value in entity.items()
        if key[0] != "@"
        for name in references(value)
    }
    assert named - set(graph) <= {"https://w3id.org/ro/crate/1.1"}
    for name in {part["@id"] for part in root["hasPart"]}:
        entity, path = graph[name], unquote(name)
        assert not re.match(r"/|\w+:|\./", name)
        if entity["@type"] == "File":
            assert entity["contentSize"] == str(len(files[path]))
            assert entity["sha256"] == hashlib.sha256(files[path]).hexdigest()
        else:
            assert entity["@type"] == "Dataset" and name.endswith("/") and any(file.startswith(path) for file in files)
    covered = {unquote(part["@id"]) for part in root["hasPart"]}
    stores = tuple(path for path in covered if path.endswith("/"))
    ours = {path for path in files if path.startswith("results/")}
    assert ours == {path for path in ours if path in covered or path.startswith(stores)}


def test_the_commands(made, archive, monkeypatch):
    """In a clone as the command line finds it."""
    clone = made[1]
    monkeypatch.chdir(clone)
    shown = CliRunner().invoke(main, ["restore", str(archive)])
    assert shown.exit_code == 0, shown.output
    assert f"results/mine: {len(KEPT)} files, each as it was packed" in shown.output
    write_json(clone / "results/mine/tables/more.json", {})
    again = CliRunner().invoke(main, ["pack", "mine", "again.tar.gz"])
    assert again.exit_code == 0 and hashlib.sha256((clone / "again.tar.gz").read_bytes()).hexdigest() in again.output
    refused = CliRunner().invoke(main, ["restore", "again.tar.gz"])
    assert refused.exit_code == 1 and refused.output.count("\n") == 1 and refused.output.startswith("error: ")
