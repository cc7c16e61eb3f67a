# What the programs of ../swift read, written to its folder; sourced, not run. Folder "one" configures the storage servers and RegionOne, "two" RegionTwo.
# shellcheck shell=bash disable=SC2154 # the ports and passwords are the caller's

configure() {
    mkdir -p "$dir"/{one,two,cache,devices/d1}
    configure_limits >"$dir/one/swift.conf"
    configure_limits "max_file_size = $small_limit" >"$dir/two/swift.conf"
    configure_storage account "$account_port" >"$dir/one/account-server.conf"
    configure_storage container "$container_port" >"$dir/one/container-server.conf"
    configure_storage object "$object_port" >"$dir/one/object-server.conf"
    configure_proxy one "$proxy_one_port" >"$dir/one/proxy-server.conf"
    configure_proxy two "$proxy_two_port" >"$dir/two/proxy-server.conf"
    configure_expirer >"$dir/one/object-expirer.conf"
    configure_keystone 3600 >"$dir/keystone.conf"
    configure_keystone 5 >"$dir/keystone-short.conf"
    python3 "$root/scripts/services/swift.d/prepare.py" "$dir" "account=$account_port" "container=$container_port" "object=$object_port"
}

configure_limits() { # [LIMIT]
    cat <<-CONF
	[swift-hash]
	swift_hash_path_suffix = tests
	swift_hash_path_prefix = tests
	[storage-policy:0]
	name = Policy-0
	default = yes
	[swift-constraints]
	${1:-}
	CONF
}

# No server forks workers (workers = 0): each is one process that can be told by its number.
configure_storage() { # KIND PORT
    cat <<-CONF
	[DEFAULT]
	bind_ip = 127.0.0.1
	bind_port = $2
	user = $(id -un)
	swift_dir = $dir/one
	devices = $dir/devices
	mount_check = false
	disable_fallocate = true
	fallocate_reserve = 0
	workers = 0
	[pipeline:main]
	pipeline = healthcheck $1-server
	[app:$1-server]
	use = egg:swift#$1
	[filter:healthcheck]
	use = egg:swift#healthcheck
	[container-updater]
	interval = 2
	recon_cache_path = $dir/cache
	CONF
}

configure_proxy() { # one|two PORT
    cat <<-CONF
	[DEFAULT]
	bind_ip = 127.0.0.1
	bind_port = $2
	user = $(id -un)
	swift_dir = $dir/$1
	workers = 0
	[pipeline:main]
	# tempauth comes after keystoneauth: the later one decides about an account that both could claim
	pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk tempurl authtoken keystoneauth tempauth copy slo dlo versioned_writes symlink proxy-logging proxy-server
	[app:proxy-server]
	use = egg:swift#proxy
	account_autocreate = true
	[filter:authtoken]
	paste.filter_factory = keystonemiddleware.auth_token:filter_factory
	www_authenticate_uri = http://127.0.0.1:$keystone_port
	auth_url = http://127.0.0.1:$keystone_port
	auth_type = password
	project_domain_id = default
	user_domain_id = default
	project_name = service
	username = swift
	password = $service_password
	region_name = RegionOne
	# a request without a good token may still be one by temporary URL or v1: those decide
	delay_auth_decision = true
	include_service_catalog = false
	service_token_roles_required = true
	# no cache of tokens: a revoked one is refused at once
	cache = swift.cache
	token_cache_time = -1
	[filter:keystoneauth]
	use = egg:swift#keystoneauth
	reseller_prefix = AUTH, R2
	operator_roles = admin, member
	project_reader_roles = reader
	[filter:tempauth]
	use = egg:swift#tempauth
	reseller_prefix = TA
	user_registry_tester = $v1_key .admin
	[filter:cache]
	use = egg:swift#memcache
	memcache_servers = 127.0.0.1:$memcached_port
	[filter:slo]
	use = egg:swift#slo
	# the default slows reading to a segment a second after ten that are under 1 MiB, which those of tests are
	rate_limit_under_size = 0
	[filter:tempurl]
	use = egg:swift#tempurl
	allowed_digests = sha1 sha256 sha512
	[filter:versioned_writes]
	use = egg:swift#versioned_writes
	allow_versioned_writes = true
	allow_object_versioning = true
	[filter:proxy-logging]
	use = egg:swift#proxy_logging
	CONF
    printf '[filter:%s]\nuse = egg:swift#%s\n' {,}catch_errors {,}gatekeeper {,}healthcheck {,}listing_formats {,}bulk {,}copy {,}dlo {,}symlink
}

configure_expirer() {
    cat <<-CONF
	[DEFAULT]
	user = $(id -un)
	swift_dir = $dir/one
	[object-expirer]
	interval = 2
	recon_cache_path = $dir/cache
	[pipeline:main]
	pipeline = catch_errors cache proxy-server
	[app:proxy-server]
	use = egg:swift#proxy
	[filter:catch_errors]
	use = egg:swift#catch_errors
	[filter:cache]
	use = egg:swift#memcache
	memcache_servers = 127.0.0.1:$memcached_port
	CONF
}

configure_keystone() { # SECONDS
    cat <<-CONF
	[DEFAULT]
	use_stderr = true
	[database]
	connection = sqlite:///$dir/keystone.db?timeout=60&check_same_thread=false
	sqlite_synchronous = false
	[cache]
	# outside the process, so that what is revoked at one port is so at the other; without any, to check a token takes most of a second
	enabled = true
	backend = dogpile.cache.memcached
	memcache_servers = 127.0.0.1:$memcached_port
	[identity]
	# the least there is, for fast logins: the passwords are random anyway
	password_hash_rounds = 4
	[token]
	provider = fernet
	expiration = $1
	[fernet_tokens]
	key_repository = $dir/fernet-keys
	[fernet_receipts]
	key_repository = $dir/fernet-keys
	[credential]
	key_repository = $dir/credential-keys
	CONF
}
