"""Makes Swift's rings and Keystone's keys and database: prepare.py FOLDER KIND=PORT..."""
import base64
import os
import sqlite3
import sys
import tempfile

from swift.common.ring import RingBuilder

folder = sys.argv[1]

# Swift keeps the metadata of an object in extended attributes of its file; an older tmpfs has none.
with tempfile.NamedTemporaryFile(dir=folder + "/devices/d1") as probe:
    try:
        os.setxattr(probe.name, "user.swift.metadata", b"x" * 2000)
    except OSError as error:
        sys.exit(f"{folder} does not take extended attributes ({error}); set TMPDIR to a folder on ext4 or xfs")

# One device, one replica.
for kind, port in (argument.split("=") for argument in sys.argv[2:]):
    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    address = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    ring.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1.0, **address})
    ring.rebalance()
    for region in "one", "two":
        ring.get_ring().save(f"{folder}/{region}/{kind}.ring.gz")

# As keystone-manage's fernet_setup and credential_setup would, which take seconds.
for repository in "fernet-keys", "credential-keys":
    os.mkdir(f"{folder}/{repository}", 0o700)
    for number in "0", "1":
        with open(f"{folder}/{repository}/{number}", "wb") as key:
            key.write(base64.urlsafe_b64encode(os.urandom(32)))

# Readers and a writer at once; without it logins fail now and then because "the database is locked".
sqlite3.connect(folder + "/keystone.db").execute("PRAGMA journal_mode = WAL")
