"""A hub on this machine: the few routes that fetching uses, with faults to order.

    with Hub() as hub:
        repo = hub.add("org/name", {"config.json": b"{}", "model.safetensors": data})
        hub.fault("model.safetensors", drop_after=1000)
"""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_large(path):
    return path.endswith((".safetensors", ".gguf", ".bin"))


class Repo:
    def __init__(self, files, revisions=("main",)):
        self.files = dict(files)
        text = json.dumps({p: git_id(d) for p, d in sorted(files.items())})
        self.commit = hashlib.sha1(text.encode()).hexdigest()
        self.revisions = set(revisions)
        self.listed = {}  # path -> what the listing says instead of the truth

    def entry(self, path, data):
        entry = {"type": "file", "path": path, "size": len(data), "oid": git_id(data)}
        if is_large(path):
            sha = hashlib.sha256(data).hexdigest()
            entry["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 134}
        return {**entry, **self.listed.get(path, {})}

    def etag(self, path):
        data = self.files[path]
        return hashlib.sha256(data).hexdigest() if is_large(path) else git_id(data)


class Fault:
    """What goes wrong with a file, `times` times (-1: always)."""

    def __init__(self, times=1, drop_after=None, stall_after=None, status=None,
                 headers=None, body=None, ignore_range=False, length=None, redirect=None,
                 swap=None):
        self.times, self.drop_after, self.stall_after = times, drop_after, stall_after
        self.status, self.headers, self.body = status, headers or {}, body
        self.ignore_range, self.length, self.redirect = ignore_range, length, redirect
        self.swap = swap  # the file's content from now on


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server.hub
        url = urlsplit(self.path)
        with hub.lock:
            hub.requests.append((self.command, self.path, dict(self.headers)))
        try:
            self.route(hub, unquote(url.path), parse_qs(url.query))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def route(self, hub, path, query):
        parts = path.strip("/").split("/")
        if parts[:1] == ["cdn"]:
            return self.cdn(hub, "/".join(parts[1:]))
        if parts[:2] == ["api", "models"] and len(parts) > 4:
            return self.api("/".join(parts[2:4]), parts[4], "/".join(parts[5:]), query)
        if len(parts) > 4 and parts[2] == "resolve":
            return self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        self.reply(404)

    def find(self, name, revision):
        hub = self.server.hub
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.reply(401, headers={"X-Error-Code": "RepoNotFound"})
            return None
        repo = hub.repos.get(name)
        if repo is None:
            self.reply(404, headers={"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in repo.revisions | {repo.commit}:
            self.reply(404, headers={"X-Error-Code": "RevisionNotFound"})
            return None
        return repo

    def api(self, name, what, revision, query):
        hub = self.server.hub
        fault = hub.take("api:" + what)
        if fault and self.broken(fault, fault.body or b""):
            return
        repo = self.find(name, revision)
        if repo is None:
            return
        if what == "revision":
            body = fault.body if fault and fault.body else json.dumps(
                {"id": name, "sha": repo.commit, "siblings": []}).encode()
            return self.reply(200, body)
        entries = [repo.entry(p, d) for p, d in repo.files.items()]
        entries += [{"type": "directory", "path": "folder", "oid": "0" * 40, "size": 0}]
        first = int(query.get("cursor", ["0"])[0])
        page = entries[first:first + hub.page]
        headers = {}
        if first + hub.page < len(entries):
            headers["Link"] = (f"<{hub.url}/api/models/{name}/tree/{revision}"
                               f"?recursive=true&cursor={first + hub.page}>; rel=\"next\"")
        if fault:
            headers.update(fault.headers)
        body = fault.body if fault and fault.body else json.dumps(page).encode()
        self.reply(200, body, headers)

    def resolve(self, name, revision, path):
        hub = self.server.hub
        repo = self.find(name, revision)
        if repo is None:
            return
        if path not in repo.files:
            return self.reply(404, headers={"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        fault = hub.take(path)
        if fault and fault.swap is not None:
            repo.files[path] = fault.swap
        if fault and fault.redirect:
            return self.reply(302, headers={**headers, "Location": fault.redirect})
        if is_large(path) and hub.cdn_url:
            headers["X-Linked-Etag"] = f'"{repo.etag(path)}"'
            headers["X-Linked-Size"] = str(len(repo.files[path]))
            headers["Location"] = f"{hub.cdn_url}/cdn/{name}/{path}?Signature=secret"
            return self.reply(302, headers=headers)
        headers["ETag"] = f'"{repo.etag(path)}"'
        self.send_data(repo.files[path], fault, headers)

    def cdn(self, hub, path):
        name, file = "/".join(path.split("/")[:2]), "/".join(path.split("/")[2:])
        data = hub.repos[name].files[file]
        self.send_data(data, hub.take("cdn:" + file),
                       {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def broken(self, fault, data):
        """Sends an error if the fault is one."""
        if fault.status:
            self.reply(fault.status, fault.body or b"", fault.headers)
            return True
        if fault.drop_after == 0 and not data:
            self.close_connection = True
            self.connection.close()
            return True
        return False

    def send_data(self, data, fault, headers):
        fault = fault or Fault()
        if self.broken(fault, data):
            return
        if fault.body is not None:
            data = fault.body
        status, first = 200, 0
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if wanted and not fault.ignore_range and condition in (None, headers.get("ETag")):
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            if first >= len(data):
                return self.reply(416, headers={"Content-Range": f"bytes */{len(data)}"})
            status = 206
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        self.send_response(status)
        for name, value in {**headers, **fault.headers}.items():
            self.send_header(name, value)
        body = data[first:]
        self.send_header("Content-Length", str(fault.length or len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.drop_after if fault.drop_after is not None else fault.stall_after
        self.send_body(body if cut is None else body[:cut])
        if fault.stall_after is not None:
            self.server.hub.closing.wait(300)
        if cut is not None or fault.length:
            self.close_connection = True

    def send_body(self, body):
        rate = self.server.hub.rate
        if not rate:
            return self.wfile.write(body)
        piece = max(1, rate // 50)
        for at in range(0, len(body), piece):
            self.wfile.write(body[at:at + piece])
            self.wfile.flush()
            time.sleep(piece / rate)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


class Hub:
    """`cdn`: where large files are redirected to, as the real hub does; a Hub of its own
    is another origin. `rate`: bytes a second of every answer."""

    def __init__(self, cdn=None, token=None, rate=None, page=1000):
        self.repos, self.faults, self.requests = {}, {}, []
        self.token, self.rate, self.page = token, rate, page
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.cdn_url = cdn.url if cdn else None
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.hub = self
        self.url = "http://127.0.0.1:%d" % self.server.server_port
        self.thread = threading.Thread(
            target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def add(self, name, files, revisions=("main",)):
        self.repos[name] = Repo(files, revisions)
        return self.repos[name]

    def fault(self, path, **what):
        with self.lock:
            self.faults.setdefault(path, []).append(Fault(**what))

    def take(self, path):
        with self.lock:
            waiting = self.faults.get(path)
            if not waiting:
                return None
            fault = waiting[0]
            fault.times -= 1
            if fault.times == 0:
                waiting.pop(0)
            return fault

    def asked(self, word):
        """The requests whose path holds `word`."""
        with self.lock:
            return [r for r in self.requests if word in r[1]]
