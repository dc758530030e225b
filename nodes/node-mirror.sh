#!/bin/sh
# Makes containerd on a Kubernetes node pull Docker Hub images through a proxy registry.
#
#   node-mirror.sh run      in a DaemonSet's Pod: bring the node into the wanted state, keep it there
#   node-mirror.sh ready    in the same container: exit 0 while it is; else print the reason
#   node-mirror.sh once     on the node: do it once (a node pool's initialisation script)
#   node-mirror.sh remove   on the node or in the Pod: put back what was there before
#   node-mirror.sh step     what `run` repeats: `once`, with patience for failing probes
#
# README.md beside this file lists the settings, says what each step leaves behind, and why.
# POSIX sh with the tools of a node: awk, cp, mv, cmp, cksum, find, base64, curl, containerd, ctr.

set -u
umask 022
PATH="${PATH:-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
export PATH

domain=${MIRROR_DOMAIN:-}
strict=${MIRROR_STRICT:-false}
host_root=${MIRROR_HOST_ROOT:-/}
login_dir=${MIRROR_LOGIN_DIR:-}
ca_file=${MIRROR_CA_FILE:-}
probe_image=${MIRROR_PROBE_IMAGE:-}
containerd_config=${MIRROR_CONTAINERD_CONFIG:-/etc/containerd/config.toml}
certs_dir=${MIRROR_CERTS_DIR:-/etc/containerd/certs.d}
state=${MIRROR_STATE_DIR:-/etc/containerd/dockerhub-mirror}
lock=${MIRROR_LOCK:-/run/dockerhub-mirror.lock}
restart_command=${MIRROR_RESTART:-systemctl restart containerd}
restart_seconds=${MIRROR_RESTART_SECONDS:-60}
interval=${MIRROR_INTERVAL:-10}
probe_seconds=${MIRROR_PROBE_SECONDS:-5}
failures_to_withdraw=${MIRROR_FAILURES:-3}
successes_to_restore=${MIRROR_SUCCESSES:-3}
run_dir=${MIRROR_RUN_DIR:-/run/node-mirror}
may_restart=${MIRROR_MAY_RESTART:-true}
account=${MIRROR_SERVICE_ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
lease=${MIRROR_LEASE:-}
lease_seconds=${MIRROR_LEASE_SECONDS:-$((restart_seconds * 6))}
node_name=${MIRROR_NODE_NAME:-}
grace_seconds=${MIRROR_GRACE_SECONDS:-30}

marker='# Written by node-mirror.sh; changes are overwritten, `node-mirror.sh remove` takes it away.'

log() {
  printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >&2
}

# Ends a step: the state on standard output, `in-place` or another word with the reason.
finish() {
  printf '%s\n' "$*"
  case $1 in in-place:*) exit 0 ;; *) exit 1 ;; esac
}

refuse() {
  finish "refused: $*"
}

# ---- files ----

# Installs standard input as file $1 with mode $2, whole or not at all.
install_text() {
  draft="$(dirname "$1")/.$(basename "$1").node-mirror"
  (umask 077 && cat >"$draft") && chmod "$2" "$draft" && mv -f "$draft" "$1" && return 0
  rm -f "$draft"
  return 1
}

# Installs file $1 as file $2 with its mode, owner and time, whole or not at all. A symbolic link
# stays one, unless $3 is -L.
install_copy() {
  draft="$(dirname "$2")/.$(basename "$2").node-mirror"
  cp "${3:--P}" -p "$1" "$draft" && mv -f "$draft" "$2" && return 0
  rm -f "$draft"
  return 1
}

# The same; on a full disk as another name of the same file.
restore() {
  install_copy "$1" "$2" && return 0
  ln "$1" "$draft" && mv -f "$draft" "$2" && return 0
  rm -f "$draft"
  return 1
}

present() {
  [ -e "$1" ] || [ -h "$1" ]
}

# Whether two files hold the same, or are symbolic links to the same target.
same() {
  if [ -h "$1" ] || [ -h "$2" ]; then
    [ -h "$1" ] && [ -h "$2" ] && [ "$(readlink "$1")" = "$(readlink "$2")" ]
  else
    cmp -s "$1" "$2"
  fi
}

# Makes folder $1, and first notes the folders that were not there.
make_folder() {
  missing=
  folder=$1
  while [ ! -d "$folder" ]; do
    missing="$missing$folder
"
    folder=$(dirname "$folder")
  done
  [ -n "$missing" ] || return 0
  { printf '%s' "$missing"; cat "$state/made" 2>/dev/null; } | install_text "$state/made" 644 &&
    mkdir -p "$1"
}

# Takes the folders named on standard input away that are empty.
remove_empty_folders() {
  while IFS= read -r folder; do
    rmdir "$folder" 2>/dev/null
  done
  return 0
}

is_ours() {
  [ -f "$1" ] && [ "$(head -n 1 "$1")" = "$marker" ]
}

# ---- what containerd is and does ----

# Sets version_major and version_minor.
find_version() {
  command -v containerd >/dev/null || refuse "there is no containerd on this node"
  version=$(containerd --version | awk '{ sub(/^v/, "", $3); print $3 }')
  version_major=${version%%.*}
  version_minor=${version#*.}
  version_minor=${version_minor%%.*}
  case "$version_major$version_minor" in
    '' | *[!0-9]*) refuse "cannot read the version that containerd says: $version" ;;
  esac
  [ "$version_major" -ge 2 ] || [ "$version_minor" -ge 6 ] ||
    refuse "containerd $version is older than 1.6"
}

at_least() {
  [ "$version_major" -gt "$1" ] || { [ "$version_major" -eq "$1" ] && [ "$version_minor" -ge "$2" ]; }
}

# Prints the config that containerd makes of file $1: every line as `table key value`.
effective() {
  if [ -f "$1" ]; then
    dumped=$(containerd --config "$1" config dump 2>/dev/null) || return 1
  else
    dumped=$(containerd config default 2>/dev/null) || return 1
  fi
  printf '%s\n' "$dumped" | flat
}

# Prints the TOML on standard input as lines of `table key value`, without quotes.
flat() {
  awk '
    { gsub(/["'\''\t]/, ""); sub(/^ +/, "") }
    /^\[/ { gsub(/[][ ]/, ""); table = $0; print table; next }
    /=/ { key = $1; sub(/^[^=]*= */, ""); print table, key, $0 }
  '
}

# Prints the config_path in the output of `effective`, from whichever table this version reads.
config_path_in() {
  awk '
    ($1 == "plugins.io.containerd.grpc.v1.cri.registry" ||
     $1 == "plugins.io.containerd.cri.v1.images.registry") && $2 == "config_path" { print $3; exit }
  '
}

# Prints the proxy's login in the output of `effective`.
login_in() {
  awk -v table="plugins.io.containerd.grpc.v1.cri.registry.configs.$domain.auth" '
    $1 == table { key = $2; sub(/^[^ ]+ [^ ]+ /, ""); value[key] = $0 }
    END { print value["username"]; print value["password"] }
  '
}

# Refuses a node whose config would not load, or not use hosts.toml, beside a config_path.
preflight() {
  conflict=$(printf '%s\n' "$1" | awk '
    $1 ~ /^plugins\.io\.containerd\.(grpc\.v1\.cri|cri\.v1\.images)\.registry\.mirrors\./ ||
    $1 ~ /^plugins\.io\.containerd\.(grpc\.v1\.cri|cri\.v1\.images)\.registry\.configs\..*\.tls$/ {
      sub(/^.*registry\./, "registry.", $1); print $1; exit
    }')
  [ -z "$conflict" ] ||
    refuse "containerd's config has $conflict, which it does not load beside config_path: move it to a hosts.toml and take it out"
}

# Prints containerd's socket.
socket_in() {
  awk '
    ($1 == "grpc" || $1 ~ /server\.v1\.grpc$/) && $2 == "address" && $3 != "" { print $3; exit }
  '
}

# Whether containerd answers with its CRI plugin loaded, within restart_seconds.
healthy() {
  socket=$(effective "$containerd_config" | socket_in)
  until_then=$(($(date +%s) + restart_seconds))
  while :; do
    ctr --address "${socket:-/run/containerd/containerd.sock}" --timeout 5s plugins ls 2>/dev/null |
      awk '$1 == "io.containerd.grpc.v1" && $2 == "cri" && $NF == "ok" { ok = 1 } END { exit !ok }' &&
      return 0
    [ "$(date +%s)" -lt "$until_then" ] || return 1
    sleep 0.2 2>/dev/null || sleep 1
  done
}

# Whether a restart may begin now: may_restart is true, false, or the Unix time it has to begin before.
restart_permitted() {
  case $may_restart in
    true) return 0 ;;
    '' | *[!0-9]*) return 1 ;;
    *) [ "$(date +%s)" -lt "$may_restart" ] ;;
  esac
}

restart_containerd() {
  log "restarting containerd: $restart_command"
  SYSTEMD_IGNORE_CHROOT=1 sh -c "$restart_command" >&2 9>&- && healthy
}

# ---- config.toml ----

# Prints file $1 with the settings on standard input, lines of `table<tab>key<tab>value`.
with_settings() {
  awk '
    function plain(line) {
      gsub(/["'\''\t\r ]/, "", line); sub(/\].*$/, "", line); sub(/^\[+/, "", line)
      return line
    }
    function setting(i) { print key[i] " = " value[i]; done[i] = 1 }
    NR == FNR {
      split($0, part, "\t"); table[NR] = part[1]; key[NR] = part[2]; value[NR] = part[3]; count = NR
      next
    }
    /^[ \t]*\[/ {
      inside = plain($0)
      print
      for (i = 1; i <= count; i++) if (!done[i] && inside == plain(table[i])) setting(i)
      next
    }
    {
      for (i = 1; i <= count; i++)
        if (inside == plain(table[i]) && $0 ~ "^[ \t]*" key[i] "[ \t]*=") next
      print
    }
    END {
      for (i = 1; i <= count; i++) if (!done[i]) {
        if (table[i] != table[i - 1]) { print ""; print "[" table[i] "]" }
        setting(i)
      }
    }
  ' - "$1"
}

# Prints the lines of config.toml that give the proxy's login, under a table for `with_settings`.
login_settings() {
  decoded=$(printf '%s' "$login" | base64 -d)
  auth="plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"$domain\".auth"
  printf '%s\tusername\t"%s"\n' "$auth" "$(printf '%s' "${decoded%%:*}" | sed 's/[\\"]/\\&/g')"
  printf '%s\tpassword\t"%s"\n' "$auth" "$(printf '%s' "${decoded#*:}" | sed 's/[\\"]/\\&/g')"
}

# Prints the login as `login_in` does where it is in force.
wanted_login() {
  login_settings | awk -F '\t' '{ print "[" $1 "]"; print $2 " = " $3 }' | flat | login_in
}

# Whether config.toml is as this script wrote it; a write that was cut short is settled first.
config_is_ours() {
  if [ -f "$state/config.next" ]; then
    if same "$containerd_config" "$state/config.next"; then
      mv -f "$state/config.next" "$state/config.written"
    else
      rm -f "$state/config.next"
    fi
  fi
  [ -f "$state/config.written" ] && same "$containerd_config" "$state/config.written"
}

# Keeps config.toml as someone else wrote it: its content, and the symbolic link that it may be.
keep_config() {
  ! config_is_ours || return 0
  rm -f "$state/config.link"
  if [ -h "$containerd_config" ]; then
    install_copy "$containerd_config" "$state/config.link" || return 1
  fi
  if [ -f "$containerd_config" ]; then
    install_copy "$containerd_config" "$state/config.before" -L && rm -f "$state/config.absent"
  else
    : | install_text "$state/config.absent" 644 && rm -f "$state/config.before" &&
      make_folder "$(dirname "$containerd_config")"
  fi
}

# Whether containerd was not healthy with config.toml as it is now.
is_rejected() {
  [ -f "$state/rejected" ] &&
    [ "$(cat "$state/rejected")" = "$(cksum 2>/dev/null <"$containerd_config")" ]
}

# Writes what config.toml said before with config_path = $1, and with the login if login_in_config,
# and restarts containerd; puts it back on failure.
set_config() {
  command -v ctr >/dev/null ||
    refuse "config.toml must be changed and there is no ctr on this node to check containerd with"
  ! is_rejected ||
    refuse "containerd did not come up healthy with config_path set; config.toml was put back. Delete $state/rejected to try again"
  keep_config || refuse "cannot write to $state"
  base="$state/config.before"
  [ -f "$base" ] || base=/dev/null
  file_version=$(awk '/^[ \t]*\[/ { exit } /^[ \t]*version[ \t]*=/ { sub(/#.*/, ""); gsub(/[^0-9]/, ""); print; exit }' "$base")
  first=
  if [ -z "$file_version" ]; then
    ! grep -q '^[[:space:]]*[^#[:space:]]' "$base" ||
      refuse "$containerd_config is of version 1: migrate it with containerd config migrate"
    file_version=2
    ! at_least 2 0 || file_version=3
    first="version = $file_version"
  fi
  table='plugins."io.containerd.grpc.v1.cri".registry'
  ! { at_least 2 0 && [ "$file_version" -ge 3 ]; } ||
    table='plugins."io.containerd.cri.v1.images".registry'
  candidate="$containerd_config.node-mirror"
  if [ -f "$base" ]; then
    cp -p "$base" "$candidate"
  else
    : >"$candidate"
  fi || refuse "cannot write to $(dirname "$candidate")"
  [ "$login_in_config" != true ] || chmod 600 "$candidate" || refuse "cannot protect $candidate"
  {
    [ -z "$first" ] || printf '%s\n' "$first"
    {
      printf '%s\tconfig_path\t"%s"\n' "$table" "$1"
      [ "$login_in_config" != true ] || login_settings
    } | with_settings "$base"
  } >"$candidate" || { rm -f "$candidate"; refuse "cannot write $candidate"; }
  accepted=$(effective "$candidate")
  accepted_path=$(printf '%s\n' "$accepted" | config_path_in)
  if [ "$accepted_path" != "$1" ]; then
    rm -f "$candidate"
    refuse "containerd does not accept config_path in $containerd_config, or a file it imports overrides it: config dump gives '$accepted_path'"
  fi
  if [ "$login_in_config" = true ] && ! has_login "$accepted"; then
    rm -f "$candidate"
    refuse "containerd does not accept the login in $containerd_config, or a file it imports overrides it"
  fi
  restart_permitted || {
    rm -f "$candidate"
    finish "restart-needed: $containerd_config has to be changed"
  }
  {
    install_copy "$candidate" "$state/config.next" &&
      { [ "$login_in_config" != true ] || : | install_text "$state/config.login" 644; } &&
      : | install_text "$state/restart-pending" 644
  } || { rm -f "$candidate"; refuse "cannot write to $state"; }
  log "setting config_path = $1 in $containerd_config"
  [ "$login_in_config" != true ] || log "setting the login for $domain in $containerd_config"
  mv -f "$candidate" "$containerd_config" || refuse "cannot write $containerd_config"
  config_is_ours
  [ "$login_in_config" = true ] || rm -f "$state/config.login"
  finish_restart
}

has_login() {
  [ "$(printf '%s\n' "$1" | login_in)" = "$(wanted_login)" ]
}

# Restarts containerd for a config.toml that is in place; puts the one before back if it fails.
finish_restart() {
  if restart_containerd; then
    rm -f "$state/restart-pending" "$state/rejected"
    return 0
  fi
  log "containerd is not healthy with the changed config.toml: putting back the one before"
  if [ -f "$state/config.before" ]; then
    cksum <"$state/config.before" | install_text "$state/rejected" 644
  else
    : | install_text "$state/rejected" 644
  fi
  put_back_config
  restart_containerd || log "containerd is not healthy with its own config.toml either"
  rm -f "$state/restart-pending" "$state/config.login"
  refuse "containerd did not come up healthy with config_path set; config.toml was put back. Delete $state/rejected to try again"
}

# Ends a change of config.toml that was cut short before containerd was restarted for it, if it may.
resume_restart() {
  [ -f "$state/restart-pending" ] && restart_permitted || return 0
  if config_is_ours; then
    finish_restart
  else
    restart_containerd || log "containerd is not healthy with its own config.toml"
    rm -f "$state/restart-pending"
  fi
}

# Restarts containerd if config.toml was changed since it was started, by someone else, and says
# other than it was seen to be started with. So the same change makes no more than one restart.
load_config() {
  if ! config_is_newer; then
    note_loaded
  elif [ "$(cat "$state/loaded" 2>/dev/null)" != "$(loaded)" ]; then
    ! is_rejected ||
      refuse "containerd did not come up healthy with $containerd_config, which someone changed. Delete $state/rejected to try again"
    restart_permitted ||
      finish "restart-needed: $containerd_config was changed after containerd was started"
    log "$containerd_config was changed after containerd was started"
    : | install_text "$state/restart-pending" 644 || refuse "cannot write to $state"
    if ! restart_containerd; then
      cksum <"$containerd_config" | install_text "$state/rejected" 644
      rm -f "$state/restart-pending"
      refuse "containerd did not come up healthy with $containerd_config, which someone changed. Delete $state/rejected to try again"
    fi
    note_loaded
    rm -f "$state/restart-pending" "$state/rejected"
  fi
}

# Prints, as a checksum, what of config.toml the mirror needs containerd to have been started with.
loaded() {
  {
    printf '%s\n' "$path"
    [ "$login_in_config" != true ] || wanted_login
  } | cksum
}

note_loaded() {
  now=$(loaded)
  [ "$(cat "$state/loaded" 2>/dev/null)" = "$now" ] ||
    printf '%s\n' "$now" | install_text "$state/loaded" 600 || refuse "cannot write to $state"
}

# Whether config.toml, or a file it imports, is newer than containerd's socket, made when it starts.
config_is_newer() {
  socket=$(printf '%s\n' "$config" | socket_in)
  socket=${socket:-/run/containerd/containerd.sock}
  [ -S "$socket" ] || return 1
  newer=$({
    printf '%s\n' "$containerd_config"
    printf '%s\n' "$config" | awk '$1 == "imports" { gsub(/[][,]/, " "); for (i = 2; i <= NF; i++) print $i }'
  } | while IFS= read -r each; do
    # Unquoted: containerd 2.x prints what it imports as patterns.
    for file in $each; do
      find "$file" -cnewer "$socket" 2>/dev/null
      find -L "$file" -cnewer "$socket" 2>/dev/null
    done
  done)
  [ -n "$newer" ]
}

# Puts config.toml back as it was, if it is still as this script wrote it.
put_back_config() {
  if ! config_is_ours; then
    [ ! -f "$state/config.written" ] ||
      same "$containerd_config" "$state/config.before" ||
      same "$containerd_config" "$state/config.link" ||
      { [ -f "$state/config.absent" ] && ! present "$containerd_config"; } ||
      log "$containerd_config was changed by someone else: it is left as it is"
    return 1
  fi
  log "putting back $containerd_config"
  if [ -h "$state/config.link" ]; then
    restore "$state/config.link" "$containerd_config"
  elif [ -f "$state/config.before" ]; then
    restore "$state/config.before" "$containerd_config"
  else
    rm -f "$containerd_config"
  fi
}

# ---- hosts.toml ----

# Prints the hosts.toml that is wanted. A strict one names the proxy as the server too, and still
# needs its [host]: containerd 1.6 asks Docker Hub where there is none.
hosts_toml() {
  printf '%s\n' "$marker"
  server=https://registry-1.docker.io
  [ "$strict" != true ] || server=https://$domain
  printf 'server = "%s"\n\n' "$server"
  printf '[host."https://%s"]\n' "$domain"
  printf 'capabilities = ["pull", "resolve"]\n'
  [ -z "$ca_file" ] || printf 'ca = "%s"\n' "$state/ca.crt"
  ! at_least 2 1 || printf 'dial_timeout = "%ss"\n' "$probe_seconds"
  [ "$login_in_hosts" != true ] ||
    printf '\n[host."https://%s".header]\nAuthorization = "Basic %s"\n' "$domain" "$login"
}

write_hosts() {
  target="$1/docker.io/hosts.toml"
  [ ! -d "$target" ] || refuse "$target is a directory: every docker.io pull of this node fails"
  login_in_hosts=false
  [ -z "$login" ] || [ "$login_in_config" = true ] || login_in_hosts=true
  wanted=$(hosts_toml)
  mode=644
  [ "$login_in_hosts" != true ] || mode=600
  if [ -f "$target" ] && [ ! -h "$target" ] && [ "$(cat "$target")" = "$wanted" ]; then
    chmod "$mode" "$target"
    return 0
  fi
  if [ ! -f "$state/original/path" ]; then
    keep_original "$1" || refuse "cannot write to $state"
  fi
  make_folder "$1/docker.io" || refuse "cannot make $1/docker.io"
  printf '%s\n' "$wanted" | install_text "$target" "$mode" || refuse "cannot write $target"
  log "$target leads to $domain"
}

# Keeps the hosts.toml that was there, and where; once, before the first change.
keep_original() {
  rm -rf "$state/original.new"
  (umask 077 && mkdir "$state/original.new") || return 1
  if present "$1/docker.io/hosts.toml" && ! is_ours "$1/docker.io/hosts.toml"; then
    log "$1/docker.io/hosts.toml is kept in $state/original while the mirror is in place"
    cp -P -p "$1/docker.io/hosts.toml" "$state/original.new/hosts.toml" || return 1
  fi
  printf '%s\n' "$1" >"$state/original.new/path" && mv "$state/original.new" "$state/original"
}

# Puts the hosts.toml back that was there, or takes ours away.
put_back_hosts() {
  [ -f "$state/original/path" ] || return 0
  kept_path=$(cat "$state/original/path")
  target="$kept_path/docker.io/hosts.toml"
  if is_ours "$target"; then
    log "$target is put back as it was"
    if present "$state/original/hosts.toml"; then
      restore "$state/original/hosts.toml" "$target" || return 1
    else
      rm -f "$target" || return 1
    fi
  elif present "$target" && ! same "$target" "$state/original/hosts.toml"; then
    log "$target was changed by someone else: it is left as it is"
  elif ! present "$target" && present "$state/original/hosts.toml"; then
    restore "$state/original/hosts.toml" "$target" || return 1
  fi
  rm -f "$kept_path/docker.io/.hosts.toml.node-mirror"
  remove_empty_folders <"$state/made"
}

# ---- the proxy ----

# Asks $1, with the token or the login if there is one, and more curl options $2; the body goes to
# $3. Sets answer to what curl prints, the head first, and code to the status.
ask() {
  answer=$({
    printf 'url = "%s"\n' "$1"
    printf 'silent\noutput = "%s"\ndump-header = "-"\nnoproxy = "*"\n' "${3:-/dev/null}"
    printf 'connect-timeout = %s\nmax-time = %s\n' "$probe_seconds" "$probe_seconds"
    if [ -n "$token" ]; then
      printf 'header = "Authorization: Bearer %s"\n' "$token"
    elif [ -n "$login" ]; then
      printf 'header = "Authorization: Basic %s"\n' "$login"
    fi
    [ -z "$ca_file" ] || printf 'cacert = "%s"\n' "$ca_file"
    [ -z "$resolve" ] || printf 'resolve = "%s"\n' "$resolve"
    printf '%s\n' "${2:-}"
  } | curl -q -K -)
  curl_exit=$?
  code=$(printf '%s\n' "$answer" | awk '/^HTTP\// { code = $2 } END { print code }')
  [ "$curl_exit" -eq 0 ] && return 0
  case $curl_exit in
    6) reason="$domain does not resolve" ;;
    7) reason="$domain refuses connections" ;;
    28) reason="$domain does not answer within $probe_seconds s" ;;
    35 | 51 | 58 | 60 | 77 | 83) reason="the certificate of $domain is not trusted (curl $curl_exit)" ;;
    *) reason="$domain cannot be asked (curl $curl_exit)" ;;
  esac
  return 1
}

# Whether the proxy answers, with this login if there is one, and has images to give; sets reason,
# and bearer_only if it takes the login for tokens alone.
probe() {
  token=
  resolve=
  bearer_only=false
  if ! ask "https://$domain/v2/"; then
    [ "$curl_exit" -eq 6 ] && [ -n "${MIRROR_ADDRESS:-}" ] || return 1
    case $domain in *:*) resolve="$domain:$MIRROR_ADDRESS" ;; *) resolve="$domain:443:$MIRROR_ADDRESS" ;; esac
    ask "https://$domain/v2/" || return 1
  fi
  case $code in
    200 | 401) [ -z "$login_missing" ] || return 0 ;;
  esac
  case $code in
    200) ;;
    401) probe_token || return 1 ;;
    *) reason="$domain answers $code"; return 1 ;;
  esac
  [ -z "$probe_image" ] || probe_manifest
}

# Gets a token from a proxy that wants one, for the login or for nobody; sets token.
probe_token() {
  refusal="$domain refuses the login"
  [ -n "$login" ] || refusal="$domain asks for a login and none is given"
  reason=$refusal
  challenge=$(printf '%s\n' "$answer" | tr -d '\r' | awk 'tolower($1) == "www-authenticate:" && tolower($2) == "bearer" { sub(/^[^ ]+ +[^ ]+ +/, ""); print; exit }')
  if [ -z "$challenge" ]; then
    # One that wants Basic may still serve public namespaces to anyone: its manifest tells.
    [ -z "$login" ] && [ -n "$probe_image" ]
    return
  fi
  realm=$(printf '%s' "$challenge" | sed -n 's/.*realm="\([^"\\]*\)".*/\1/p')
  service=$(printf '%s' "$challenge" | sed -n 's/.*service="\([A-Za-z0-9._:-]*\)".*/\1/p')
  case $realm in https://*) ;; *) return 1 ;; esac
  scope=
  [ -z "$probe_image" ] || scope="&scope=repository:$(repository):pull"
  ask "$realm?service=$service$scope" '' - || { reason="$reason for a token"; return 1; }
  reason=$refusal
  [ "$code" = 200 ] || return 1
  token=$(printf '%s\n' "$answer" | sed -n 's/.*"\(access_\)\{0,1\}token" *: *"\([^"\\]*\)".*/\2/p' | head -n 1)
  [ -z "$login" ] || bearer_only=true
}

repository() {
  name=${probe_image%%@*}
  printf '%s' "${name%%:*}"
}

# Whether the proxy gives the manifest of probe_image, or says that it has none. Asked for by digest
# once that is known: a proxy has to ask Docker Hub for a tag each time.
probe_manifest() {
  reference=latest
  case $probe_image in
    *@*) reference=${probe_image##*@} ;;
    *:*) reference=${probe_image##*:} ;;
  esac
  known=
  [ ! -f "$state/probed" ] || read -r known_image known <"$state/probed"
  [ -z "$known" ] || [ "$known_image" != "$probe_image" ] || reference=$known
  types=application/vnd.oci.image
  docker=application/vnd.docker.distribution.manifest
  ask "https://$domain/v2/$(repository)/manifests/$reference" \
    "head
header = \"Accept: $types.index.v1+json, $types.manifest.v1+json, $docker.list.v2+json, $docker.v2+json\"" ||
    { reason="$reason for $probe_image"; return 1; }
  case $code in
    2?? | 3??) ;;
    404) rm -f "$state/probed"; return 0 ;;
    401 | 403)
      reason="$domain refuses the login for $probe_image"
      [ -n "$login" ] || reason="$domain asks for a login for $probe_image and none is given"
      return 1
      ;;
    *) reason="$domain answers $code for $probe_image"; return 1 ;;
  esac
  digest=$(printf '%s\n' "$answer" | tr -d '\r' | awk 'tolower($1) == "docker-content-digest:" { print $2; exit }')
  case $digest in
    '' | "$reference" | *[!a-z0-9:]*) ;;
    *) printf '%s %s\n' "$probe_image" "$digest" | install_text "$state/probed" 644 ;;
  esac
  return 0
}

# ---- one step ----

make_state() {
  rm -rf "$state.gone"
  [ ! -f "$state/made" ] || return 0
  parent=$(dirname "$state")
  new_parent=
  [ -d "$parent" ] || new_parent=$parent
  mkdir -p "$parent" && (umask 077 && mkdir -p "$state") &&
    printf '%s' "${new_parent:+$new_parent
}" | install_text "$state/made" 644
}

# Sets login to what an Authorization header takes, and login_missing to the reason if a login should
# be there and cannot be used.
read_login() {
  login=
  login_missing=
  if [ "$login_dir" = - ]; then
    IFS= read -r login
    [ -n "$login" ] || login_missing="there is no username and password for $domain"
  elif [ -n "$login_dir" ]; then
    login=$(encoded_login) || login_missing="there is no username and password in $login_dir"
  fi
  case $(printf '%s' "$login" | base64 -d) in
    *[[:cntrl:]]*)
      login=
      login_missing="there is a control character in the username or password"
      ;;
  esac
}

encoded_login() {
  [ -r "$login_dir/username" ] && [ -r "$login_dir/password" ] || return 1
  username=$(cat "$login_dir/username")
  password=$(cat "$login_dir/password")
  printf '%s:%s' "$username" "$password" | base64 | tr -d '\n'
}

count() {
  number=$(cat "$state/$1" 2>/dev/null)
  case $number in '' | *[!0-9]*) number=0 ;; esac
  number=$((number + 1))
  printf '%s\n' "$number" | install_text "$state/$1" 644
}

step() {
  case $domain in
    '' | *[!A-Za-z0-9.:-]*) refuse "MIRROR_DOMAIN is not a domain: '$domain'" ;;
  esac
  case $probe_image in
    *[!A-Za-z0-9._/:@-]* | :* | @*) refuse "MIRROR_PROBE_IMAGE is not an image without its registry: '$probe_image'" ;;
  esac
  command -v curl >/dev/null || refuse "there is no curl on this node to ask the proxy with"
  make_state || refuse "cannot write to $state"
  read_login
  rm -f "$containerd_config.node-mirror"
  find_version
  resume_restart
  # Before what refuses a node: one that was right before must not be left with a mirror that hangs.
  if ! probe; then
    rm -f "$state/successes"
    on_failure
  fi
  rm -f "$state/failures"
  [ -z "$login_missing" ] || refuse "$login_missing"
  config=$(effective "$containerd_config") || refuse "containerd config dump fails on $containerd_config"
  preflight "$config"
  if [ -n "$ca_file" ] && ! cmp -s "$ca_file" "$state/ca.crt"; then
    install_text "$state/ca.crt" 644 <"$ca_file" || refuse "cannot write to $state"
  fi
  if [ -f "$state/withdrawn" ] && [ "$1" = patient ]; then
    count successes
    [ "$number" -ge "$successes_to_restore" ] ||
      finish "withdrawn: $domain answers again, $number of $successes_to_restore times"
  fi
  place
  rm -f "$state/withdrawn" "$state/successes"
  finish "in-place: $domain, containerd $version, $path"
}

on_failure() {
  [ -f "$state/original/path" ] || finish "waiting: $reason"
  [ ! -f "$state/withdrawn" ] || finish "withdrawn: $reason"
  [ "$strict" != true ] || finish "failing: $reason; strict, so the mirror stays"
  # What cannot be counted, on a full disk, is taken for the last one.
  count failures || number=$failures_to_withdraw
  [ "$number" -ge "$failures_to_withdraw" ] ||
    finish "failing: $reason, $number of $failures_to_withdraw times"
  : | install_text "$state/withdrawn" 644
  put_back_hosts || finish "failing: $reason; the mirror cannot be withdrawn"
  finish "withdrawn: $reason"
}

# Brings config.toml and hosts.toml into the wanted state; sets path.
place() {
  [ ! -f "$state/restart-pending" ] || restart_permitted ||
    finish "restart-needed: $containerd_config was changed and containerd not restarted yet"
  changing=false
  path=$(printf '%s\n' "$config" | config_path_in)
  case $path in
    '' | /*:*) path=$certs_dir; changing=true ;;
  esac
  # A login that is in config.toml stays there while there is one: no restarts back and forth.
  login_in_config=false
  if [ -n "$login" ] && ! at_least 2 0 && { [ "$bearer_only" = true ] || [ -f "$state/config.login" ]; }; then
    login_in_config=true
    has_login "$config" || changing=true
  elif [ -f "$state/config.login" ]; then
    changing=true
  fi
  if [ "$changing" = true ]; then
    set_config "$path"
    note_loaded
  else
    load_config
  fi
  if [ -f "$state/original/path" ] && [ "$(cat "$state/original/path")" != "$path" ]; then
    put_back_hosts || refuse "cannot put back what was in $(cat "$state/original/path")"
    rm -rf "$state/original"
  fi
  write_hosts "$path"
}

# Puts everything back as it was found.
remove() {
  rm -rf "$state.gone"
  if [ ! -f "$state/made" ]; then
    rm -rf "$state"
    finish "in-place: nothing to remove"
  fi
  if config_is_ours || [ -f "$state/restart-pending" ] || [ -f "$state/removing" ]; then
    restart_permitted || finish "restart-needed: $containerd_config has to be put back"
  fi
  put_back_hosts || refuse "cannot put back hosts.toml"
  rm -f "$containerd_config.node-mirror" "$(dirname "$containerd_config")/.$(basename "$containerd_config").node-mirror"
  if config_is_ours || [ -f "$state/restart-pending" ]; then
    : | install_text "$state/removing" 644 || refuse "cannot write to $state"
  fi
  put_back_config
  if [ -f "$state/removing" ]; then
    restart_containerd || log "containerd is not healthy after config.toml was put back"
  fi
  made=$(cat "$state/made")
  mv "$state" "$state.gone" || refuse "cannot take $state away"
  rm -rf "$state.gone"
  printf '%s\n' "$made" | remove_empty_folders
  finish "in-place: removed"
}

# Only one step at a time on a node, where flock is there to see to it.
alone() {
  if command -v flock >/dev/null; then
    (: >>"$lock") 2>/dev/null || refuse "cannot write $lock"
    exec 9>>"$lock"
    flock -w 120 9 || refuse "another step has been running for 120 s"
  fi
}

# ---- the Pod ----

# Copies file $1 into the state folder as $2, unless it is there already.
on_node_too() {
  ! cmp -s "$1" "$2" || return 0
  (umask 077 && mkdir -p "$(dirname "$2")" && cat "$1" >"$2.new") && mv -f "$2.new" "$2" && return 0
  rm -f "$2.new"
  return 1
}

# Runs this script's mode $1 on the node, the login on standard input; $2 is its may_restart.
on_node() {
  copy="$host_root$state/node-mirror.sh"
  on_node_too "$0" "$copy" || [ -f "$copy" ] ||
    { echo "refused: cannot write to $state on the node"; return 1; }
  ca_on_node=
  if [ -n "$ca_file" ]; then
    ca_on_node="$state/ca.given"
    on_node_too "$ca_file" "$host_root$ca_on_node"
  fi
  from=
  given=
  if [ -n "$login_dir" ]; then
    from=-
    given=$(encoded_login) || given=
  fi
  printf '%s\n' "$given" |
    MIRROR_LOGIN_DIR=$from MIRROR_CA_FILE=$ca_on_node MIRROR_HOST_ROOT=/ MIRROR_ADDRESS=${address:-} \
      MIRROR_MAY_RESTART=$2 chroot "$host_root" /bin/sh "$state/node-mirror.sh" "$1"
}

# The address of the proxy as the Pod's own resolver gives it, for a node whose resolver is not
# reachable from a Pod.
address_of_domain() {
  nslookup "${domain%%:*}" 2>/dev/null |
    awk '/^Name:/ { found = 1 } found && /^Address/ { sub(/^Address[^:]*: */, ""); print $1; exit }'
}

say_status() {
  [ "$1" = "${said:-}" ] || log "$1"
  said=$1
  printf '%s %s\n' "$(date +%s)" "$1" >"$run_dir/status.new" && mv -f "$run_dir/status.new" "$run_dir/status"
}

run() {
  mkdir -p "$run_dir"
  ended_at=
  trap 'ended_at=${ended_at:-$(date +%s)}' TERM INT
  while [ -z "$ended_at" ]; do
    step_in_turn
    case $said in *"does not resolve") address=$(address_of_domain) ;; esac
    if [ -z "$ended_at" ]; then
      sleep "$interval" &
      wait $!
    fi
  done
  trap '' TERM INT
  leave
  release_lease
}

# One step; containerd is restarted only while this node holds the Lease.
step_in_turn() {
  if [ -z "$lease" ]; then
    say_status "$(on_node step true)"
    return
  fi
  result=$(on_node step false)
  case $result in
    restart-needed:*) ;;
    *)
      say_status "$result"
      return
      ;;
  esac
  if ! take_lease; then
    say_status "waiting: $lease_reason"
    return
  fi
  say_status "$result"
  result=$(on_node step "$begin_before")
  case $result in
    "refused: containerd did not come up healthy"*)
      log "Lease $lease is kept until it expires, so that other nodes are slow to try the same"
      ;;
    *) release_lease ;;
  esac
  say_status "$result"
}

# When the Pod ends: puts the node back if its DaemonSet is gone or going, else leaves it alone.
leave() {
  if ! daemon_set_is_going; then
    log "the Pod ends and its DaemonSet stays: the node is left as it is"
    return
  fi
  result=
  [ -z "$lease" ] || result=$(on_node remove false)
  case $result in
    '' | restart-needed:*)
      [ -z "$lease" ] || take_lease_before $((ended_at + grace_seconds * 2 / 3)) ||
        log "$lease_reason: going on without Lease $lease"
      result=$(on_node remove true)
      ;;
  esac
  log "the DaemonSet is being deleted: $result"
}

# ---- the API server ----

# Sends it method $1 for path $2, with body $3 of type $4 if there is one; sets code and found.
api() {
  code=000
  [ -r "$account/token" ] || return 1
  (umask 077 && mkdir -p "$host_root$state") &&
    cat "$account/ca.crt" >"$host_root$state/cluster-ca.crt" || return 1
  server=${MIRROR_API_SERVER:-https://${KUBERNETES_SERVICE_HOST:-}:${KUBERNETES_SERVICE_PORT:-}}
  found=$({
    printf 'request = "%s"\nurl = "%s%s"\n' "$1" "$server" "$2"
    printf 'header = "Authorization: Bearer %s"\n' "$(cat "$account/token")"
    printf 'header = "Accept: application/json"\n'
    if [ -n "${3:-}" ]; then
      printf 'header = "Content-Type: %s"\n' "$4"
      printf 'data = "%s"\n' "$(printf '%s' "$3" | sed 's/["\\]/\\&/g')"
    fi
    printf 'cacert = "%s"\n' "$state/cluster-ca.crt"
    printf 'silent\nnoproxy = "*"\nmax-time = 10\nwrite-out = "\\n%%{http_code}"\n'
  } | chroot "$host_root" curl -q -K -)
  curl_exit=$?
  rm -f "$host_root$state/cluster-ca.crt"
  rmdir "$host_root$state" 2>/dev/null
  code=${found##*
}
  # What was cut off has a code too, and might lack the holder.
  [ "$curl_exit" -eq 0 ] || code=000
  found=${found%
*}
}

# Prints the string or number at path $1, such as spec.holderIdentity, of the JSON in found.
json_at() {
  printf '%s\n' "$found" | awk -v wanted="$1" '
    function value(text, path, level) {
      path = key[1]
      for (level = 2; level <= depth; level++) path = path "." key[level]
      if (path == wanted) { print text; exit }
    }
    { sub(/^[ \t]+/, ""); text = text $0 }
    END {
      while (text != "") {
        token = substr(text, 1, 1)
        if (match(text, /^"([^"\\]|\\.)*"/) || match(text, /^[-+.0-9A-Za-z]+/))
          token = substr(text, 1, RLENGTH)
        text = substr(text, length(token) + 1)
        if (token == "{") key[++depth] = ""
        else if (token == "[") key[++depth] = "[]"
        else if (token == "}" || token == "]") depth--
        else if (token ~ /^"/) {
          token = substr(token, 2, length(token) - 2)
          if (text ~ /^[ \t]*:/) key[depth] = token
          else value(token)
        }
        else if (token ~ /^[-+.0-9A-Za-z]/) value(token)
      }
    }
  '
}

namespace_of_pod() {
  cat "$account/namespace" 2>/dev/null
}

daemon_set_is_going() {
  [ -n "${MIRROR_DAEMON_SET:-}" ] || return 1
  api GET "/apis/apps/v1/namespaces/$(namespace_of_pod)/daemonsets/$MIRROR_DAEMON_SET" || return 1
  case $code in
    404) return 0 ;;
    200) [ -n "$(json_at metadata.deletionTimestamp)" ] ;;
    *) return 1 ;;
  esac
}

# ---- the Lease: whose containerd is restarted ----

held=
seen=

# Takes the Lease; sets begin_before. Else sets lease_reason, and fails with 1 if it may be had later,
# with 2 if this account may not have it.
take_lease() {
  case $node_name in
    '' | *[!A-Za-z0-9.-]*)
      lease_reason="MIRROR_NODE_NAME is not a node's name: '$node_name'"
      return 2
      ;;
  esac
  leases="/apis/coordination.k8s.io/v1/namespaces/$(namespace_of_pod)/leases"
  begin_before=$(($(date +%s) + lease_seconds / 3))
  now=$(date -u +%Y-%m-%dT%H:%M:%S.000000Z)
  spec='"spec":{"holderIdentity":"'$node_name'","leaseDurationSeconds":'$lease_seconds',"acquireTime":"'$now'","renewTime":"'$now'"}'
  api GET "$leases/$lease"
  case $code in
    404)
      api POST "$leases" '{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"'$lease'"},'"$spec"'}' application/json
      ;;
    200)
      lease_is_free || return 1
      api PATCH "$leases/$lease" '{"metadata":{"resourceVersion":"'$version'"},'"$spec"'}' application/merge-patch+json
      ;;
  esac
  case $code in
    200 | 201)
      read_version || return 1
      held=$version
      return 0
      ;;
    409) lease_reason="another node takes Lease $lease" ;;
    000) lease_reason="the API server cannot be asked for Lease $lease" ;;
    401 | 403)
      lease_reason="the API server answers $code for Lease $lease"
      return 2
      ;;
    *) lease_reason="the API server answers $code for Lease $lease" ;;
  esac
  return 1
}

# Takes the Lease, trying until Unix time $1; not any longer if the account may not.
take_lease_before() {
  waits_for=
  while :; do
    take_lease && return 0
    [ $? -eq 1 ] || return 1
    [ "$(date +%s)" -lt "$1" ] || return 1
    [ "$lease_reason" = "$waits_for" ] || log "waiting: $lease_reason"
    waits_for=$lease_reason
    sleep 2
  done
}

# Whether the Lease in found is nobody's, this node's or expired; sets version. The holder's seconds
# are counted from when this Pod first saw that version, as client-go does: clocks of nodes differ.
lease_is_free() {
  read_version || return 1
  holder=$(json_at spec.holderIdentity)
  case $holder in
    '' | "$node_name") return 0 ;;
    *[!A-Za-z0-9.-]*) holder="with another name" ;;
  esac
  [ "$version" = "$seen" ] || seen_at=$(date +%s)
  seen=$version
  duration=$(json_at spec.leaseDurationSeconds)
  case $duration in '' | *[!0-9]*) duration=$lease_seconds ;; esac
  lease_reason="node $holder restarts its containerd"
  [ $(($(date +%s) - seen_at)) -gt "$duration" ]
}

read_version() {
  version=$(json_at metadata.resourceVersion)
  case $version in
    '' | *[!A-Za-z0-9]*)
      lease_reason="the API server's answer for Lease $lease is not understood"
      return 1
      ;;
  esac
}

# Gives the Lease back, if it is still as this Pod took it.
release_lease() {
  for attempt in 1 2 3; do
    [ -n "$held" ] || return 0
    [ "$attempt" -eq 1 ] || sleep 1
    api PATCH "$leases/$lease" '{"metadata":{"resourceVersion":"'$held'"},"spec":{"holderIdentity":""}}' application/merge-patch+json
    case $code in 200 | 404 | 409) held= ;; esac
  done
  [ -z "$held" ] || log "Lease $lease cannot be given back ($code): it expires in $lease_seconds s"
  held=
}

ready() {
  read -r at status <"$run_dir/status" || { echo "no step has ended yet"; exit 1; }
  [ $(($(date +%s) - at)) -le $((interval * 6 + probe_seconds * 4 + restart_seconds)) ] ||
    { echo "no step has ended since $at"; exit 1; }
  case $status in
    in-place:*) exit 0 ;;
    *) printf '%s\n' "$status"; exit 1 ;;
  esac
}

case ${1:-} in
  run) run ;;
  ready) ready ;;
  once | step | remove)
    if [ "$host_root" != / ]; then
      on_node "$1" "$may_restart"
      exit
    fi
    alone
    case $1 in
      once) step eager ;;
      step) step patient ;;
      remove) remove ;;
    esac
    ;;
  *)
    echo "usage: node-mirror.sh run | ready | once | step | remove" >&2
    exit 2
    ;;
esac
