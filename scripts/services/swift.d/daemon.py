"""Runs one of Swift's daemons, logging to stderr: daemon.py CONFIGURATION ROLE

Swift's own programs read limits and hash salts from /etc/swift/swift.conf and nowhere else, as soon as they import the rest; so this says first where
ours is.
"""
import sys
import time

from swift.common import utils

configuration, role = sys.argv[1:]
utils.SWIFT_CONF_FILE = configuration + "/swift.conf"
file = f"{configuration}/{role}.conf"

if role == "object-expirer":
    from swift.common.daemon import run_daemon
    from swift.obj.expirer import ObjectExpirer

    run_daemon(ObjectExpirer, file, verbose=True)
elif role == "container-updater":
    from swift.common.daemon import run_daemon
    from swift.container.updater import ContainerUpdater

    class Updater(ContainerUpdater):
        def run_forever(self, *args, **kwargs):
            # Swift forks for each sweep, which takes more than a second of CPU: too much for every other second.
            while True:
                self.run_once()
                time.sleep(self.interval)

    run_daemon(Updater, f"{configuration}/container-server.conf", section_name="container-updater", verbose=True)
else:
    from swift.common.wsgi import run_wsgi

    extra = {}
    if role == "object-server":
        from swift.obj.server import global_conf_callback

        extra["global_conf_callback"] = global_conf_callback
    sys.exit(run_wsgi(file, role, verbose=True, **extra))
