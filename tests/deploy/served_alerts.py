"""Runs where the sensor is installed, with nothing of the tests: prints what `sensor serve` has of a store.

usage: served_alerts.py STORE
"""

import os
import subprocess
import sys
import urllib.request
from urllib.parse import parse_qs, urlsplit

serving = subprocess.Popen(
    ["sensor", "serve", "--store", sys.argv[1], "--listen", "127.0.0.1:0"],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONUNBUFFERED": "1"},
)
try:
    assert serving.stdout is not None
    link = urlsplit(serving.stdout.readline().strip())
    (token,) = parse_qs(link.query)["token"]
    request = urllib.request.Request(
        f"http://{link.netloc}/api/alerts", headers={"Authorization": f"Bearer {token}"}
    )
    sys.stdout.write(urllib.request.urlopen(request, timeout=30).read().decode())
finally:
    serving.terminate()
    serving.wait()
