#!/bin/sh
# The loop around node.sh in the DaemonSet's Pod: asks the proxies, and has node.sh bring the node into
# the state that fits their answers.
#
#   pod.sh run      until the Pod ends
#   pod.sh ready    exit 0 while the node pulls through the proxies; else prints the reason
#
# POSIX sh, in the image of the Pod (busybox). What is asked or changed is so by the node's own programs,
# by chroot. README.md lists the settings, and says what the loop does and why.

set -u
node=${POD_NODE_ROOT:-/host}
run=${POD_RUN:-/run/node-mirror}
# Lines of `host domain folder-of-the-login`, the last - where there is none.
proxies=$POD_PROXIES
# The image of this Pod, whose manifest is asked for if it is a proxy's.
image=${POD_IMAGE:-}
ca=${POD_CA:-}
strict=${MIRROR_STRICT:-false}
interval=${POD_INTERVAL:-30}
window=${POD_RESTART_WINDOW:-300}
patience=${POD_PATIENCE:-3}
name=${POD_NODE_NAME:-}
account=${POD_ACCOUNT:-/var/run/secrets/kubernetes.io/serviceaccount}
state=/etc/containerd/dockerhub-mirror
node_script=${0%/*}/node.sh
probe_seconds=${POD_PROBE_SECONDS:-5}
node_path=${PATH-}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

log() {
  printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >&2
}

on_node() {
  chroot "$node" /usr/bin/env SYSTEMD_IGNORE_CHROOT=1 PATH="$node_path" "$@"
}

# A number below $1, the same for the same text $2.
spread() {
  echo $((0x$(echo "$2" | md5sum | cut -c 1-7) % ($1 > 0 ? $1 : 1)))
}

# Counts one more in file $1; sets number.
count() {
  number=$(($(cat "$run/$1" 2>/dev/null || echo 0) + 1))
  echo "$number" >"$run/$1"
}

# ---- the proxies ----

# Asks $1 as containerd would: by the node's curl, with the proxy settings of containerd's systemd unit.
# $2 is more of curl's config; the body goes to $3. Sets answer, the head first, and code.
ask() {
  answer=$({
    printf 'url = "%s"\n%s\n' "$1" "${2:-}"
    printf 'silent\noutput = "%s"\ndump-header = "-"\nmax-time = %s\n' "${3:-/dev/null}" "$probe_seconds"
    [ -z "$authorization" ] || printf 'header = "Authorization: %s"\n' "$authorization"
    [ -z "$ca" ] || echo 'cacert = "/proc/self/fd/3"'
    [ -z "$resolve" ] || printf 'resolve = "%s"\n' "$resolve"
  } | on_node env -i PATH="$node_path" $environment curl -q -K - 3<"${ca:-/dev/null}")
  curl_exit=$?
  code=$(echo "$answer" | awk '/^HTTP\// { code = $2 } END { print code }')
  [ "$curl_exit" -ne 0 ] || return 0
  case $curl_exit in
    5) reason="HTTPS_PROXY of containerd's systemd unit does not resolve" ;;
    6) reason="$domain does not resolve" ;;
    7) reason="$domain refuses connections" ;;
    28) reason="$domain does not answer within $probe_seconds s" ;;
    35 | 51 | 58 | 60 | 77 | 83) reason="the certificate of $domain is not trusted (curl $curl_exit)" ;;
    *) reason="$domain cannot be asked (curl $curl_exit)" ;;
  esac
  [ -z "$environment" ] ||
    reason="$reason; containerd's systemd unit sets $(echo $environment): NO_PROXY has to name $domain"
  return 1
}

# Whether the proxy $domain gives content, with its login if it has one: the manifest of the Pod's own
# image if it is the proxy's, else whether it takes the login. Sets kind, login, and reason.
probe() {
  resolve=
  authorization=
  kind=basic
  read_login || return
  [ "$login" = - ] || authorization="Basic $login"
  environment=$({
    on_node systemctl show -p Environment --value containerd | tr ' ' '\n'
    on_node sh -c 'cat $(systemctl show -p EnvironmentFiles --value containerd | sed "s/ (.*//")'
  } 2>/dev/null </dev/null | tr -d '"' | grep -iE '^(https|no)_proxy=')
  path=
  case $image in
    "$domain"/*)
      path=${image#*/}
      repository=${path%%@*}
      repository=${repository%%:*}
      reference=latest
      case $path in *@*) reference=${path##*@} ;; *:*) reference=${path##*:} ;; esac
      # Once it is known, by digest: for a tag the proxy has to ask Docker Hub.
      reference=$(cat "$run/digest" 2>/dev/null || echo "$reference")
      path=$repository/manifests/$reference
      ;;
  esac
  if ! ask_for "$path"; then
    # A node whose resolver is a stub on loopback: the Pod's own resolvers are the ones behind it.
    [ "$curl_exit" -eq 6 ] || return
    address=$(nslookup "${domain%%:*}" 2>/dev/null |
      awk '/^Name:/ { found = 1 } found && /^Address/ { sub(/^Address[^:]*: */, ""); print $1; exit }')
    [ -n "$address" ] || return
    case $domain in *:*) resolve=$domain:$address ;; *) resolve=$domain:443:$address ;; esac
    ask_for "$path" || return
  fi
  if [ "$code" = 401 ] && get_token; then
    ask_for "$path" || return
  fi
  case $code in
    2?? | 3?? | 404) ;;
    401)
      reason="$domain refuses the login"
      [ "$login" != - ] || reason="$domain asks for a login and none is given"
      return 1
      ;;
    *) reason="$domain answers $code${path:+ for $repository}"; return 1 ;;
  esac
  [ -n "$path" ] || return 0
  digest=$(echo "$answer" | tr -d '\r' | awk 'tolower($1) == "docker-content-digest:" { print $2; exit }')
  case $code/$digest in
    404/*) rm -f "$run/digest" ;;
    */sha256:*) echo "$digest" >"$run/digest" ;;
  esac
}

ask_for() {
  types=application/vnd.oci.image
  docker=application/vnd.docker.distribution.manifest
  accept="header = \"Accept: $types.index.v1+json, $types.manifest.v1+json, $docker.list.v2+json, $docker.v2+json\""
  ask "https://$domain/v2/$1" "${1:+head
$accept}"
}

# Gets a token for the login, or for nobody, from a proxy that answered 401; sets authorization.
get_token() {
  challenge=$(echo "$answer" | tr -d '\r' |
    awk 'tolower($1) == "www-authenticate:" && tolower($2) == "bearer" { sub(/^[^ ]+ +[^ ]+ +/, ""); print; exit }')
  realm=$(echo "$challenge" | sed -n 's/.*realm="\(https:[^"\\]*\)".*/\1/p')
  service=$(echo "$challenge" | sed -n 's/.*service="\([A-Za-z0-9._:-]*\)".*/\1/p')
  [ -n "$realm" ] || return
  ask "$realm?service=$service${path:+&scope=repository:$repository:pull}" '' - || return
  token=$(echo "$answer" | sed -n 's/.*"\(access_\)\{0,1\}token" *: *"\([^"\\]*\)".*/\2/p' | head -n 1)
  if [ "$code" != 200 ] || [ -z "$token" ]; then
    code=401
    return 1
  fi
  authorization="Bearer $token"
  kind=bearer
}

# Sets login to base64 of user:password, or -.
read_login() {
  login=-
  folder=$(echo "$proxies" | awk -v domain="$domain" '$2 == domain { print $3; exit }')
  [ "$folder" != - ] || return 0
  reason="there is no username and password in $folder"
  [ -r "$folder/username" ] && [ -r "$folder/password" ] || return
  login=$(printf '%s:%s' "$(cat "$folder/username")" "$(cat "$folder/password")" | base64 | tr -d '\n')
  reason="there is a control character in the username or password in $folder"
  ! echo "$login" | base64 -d | grep -q '[[:cntrl:]]' &&
    [ "$(echo "$login" | base64 -d | wc -l)" -eq 0 ]
}

# Asks the proxy $domain and decides: serve it is used, withdraw it is not, keep leaves it as it is.
judge() {
  if probe; then
    rm -f "$run/$domain.failures"
    echo "$kind" >"$run/$domain.kind"
    verdict=serve
    [ -f "$run/$domain.withdrawn" ] || return
    count "$domain.successes"
    if [ "$number" -ge "$patience" ]; then
      rm -f "$run/$domain.withdrawn"
    else
      verdict=withdraw
      said="withdrawn: $domain answers again, $number of $patience times"
    fi
    return
  fi
  rm -f "$run/$domain.successes"
  verdict=keep
  if [ "$code" = 429 ]; then
    # Nodes that all turn to Docker Hub now would make it worse there: it is asked less often.
    note="; $reason, so it is asked less often"
    wait=$((interval * 5))
    return
  fi
  count "$domain.failures"
  if [ "$strict" = true ]; then
    said="failing: $reason; strict, so the mirror stays"
  elif [ "$number" -lt "$patience" ]; then
    said="failing: $reason, $number of $patience times"
    wait=$(((interval + 2) / 3))
  else
    verdict=withdraw
    : >"$run/$domain.withdrawn"
    said="withdrawn: $reason"
  fi
}

# ---- the node ----

# Has node.sh do $1 on the node, with the list on standard input; $2 is whether it may restart containerd.
node_sh() {
  on_node env MIRROR_MAY_RESTART="$2" MIRROR_STRICT="$strict" sh -c "$(cat "$node_script")" node.sh "$1"
}

# Lets node.sh do $1 with $list. Where it has to restart containerd, not before this node's turn, unless
# $2 is now: nodes that have to do it at once do it one after the other, spread over the window by name.
do_in_turn() {
  result=$(printf '%s\n' "$list" | node_sh "$1" false)
  case $result in
    restart-needed:*) ;;
    *)
      rm -f "$run/turn"
      return
      ;;
  esac
  now=$(date +%s)
  turn=$(cat "$run/turn" 2>/dev/null)
  if [ -z "$turn" ]; then
    turn=$((now + $(spread "$window" "$name")))
    # A node that was started just now has little to lose.
    [ "$(cut -d . -f 1 /proc/uptime)" -gt "${POD_NEW_SECONDS:-600}" ] || turn=$now
    echo "$turn" >"$run/turn"
  fi
  left=$((turn - now))
  if [ "$left" -gt 0 ]; then
    result="$result, in $left s"
    [ "$left" -gt "$wait" ] || wait=$left
    return
  fi
  result=$(printf '%s\n' "$list" | node_sh "$1" true)
  rm -f "$run/turn"
}

step() {
  list=
  said=
  note=
  wait=$interval
  unknown=
  for domain in $(echo "$proxies" | awk '{ print $2 }' | sort -u); do
    code=
    judge
    [ "$verdict" != withdraw ] || continue
    if [ "$verdict" = keep ]; then
      # How it takes the login was seen before; if not, nothing is changed.
      kind=$(cat "$run/$domain.kind" 2>/dev/null)
      [ -n "$kind" ] || { unknown=1 && said="waiting: $reason"; }
    fi
    list="$list$(echo "$proxies" | awk -v domain="$domain" -v rest="$login $kind" '$2 == domain { print $1, $2, rest }')
"
  done
  result=$said
  if [ -z "$unknown" ]; then
    list="$list$(cat "${ca:-/dev/null}")"
    do_in_turn apply
    case $result in in-place:*) result=${said:-$result$note} ;; esac
  fi
  say "$result"
  copy=$node$state/node.sh
  [ ! -d "$node$state" ] || cmp -s "$node_script" "$copy" ||
    { cat "$node_script" >"$copy.new" && mv -f "$copy.new" "$copy"; } 2>/dev/null
}

say() {
  [ "$1" = "${said_before:-}" ] || log "$1"
  said_before=$1
  printf '%s %s\n' "$(date +%s)" "$1" >"$run/status.new" && mv -f "$run/status.new" "$run/status"
}

run() {
  mkdir -p "$run"
  ended=
  trap 'ended=1' TERM INT
  while [ -z "$ended" ]; do
    step
    [ -z "$ended" ] || break
    # Four to six fifths of it, so that nodes that start together do not ask together.
    sleep $((wait * 4 / 5 + $(spread $((wait * 2 / 5 + 1)) "$name $(date +%s)"))) &
    wait $!
  done
  trap '' TERM INT
  leave
}

# When the Pod ends: the node is put back if the DaemonSet is going for good, else left as it is.
leave() {
  if ! daemon_set_is_going; then
    log "the Pod ends and its DaemonSet stays: the node is left as it is"
    return
  fi
  list=
  wait=0
  do_in_turn apply
  while :; do
    do_in_turn remove
    case $result in restart-needed:*) sleep "$left" ;; *) break ;; esac
  done
  log "the DaemonSet is being deleted: $result"
}

# Asks the API server, once, for the metadata of this Pod's DaemonSet.
daemon_set_is_going() {
  [ -n "${POD_DAEMON_SET:-}" ] && [ -r "$account/token" ] || return
  url=${POD_API_SERVER:-https://${KUBERNETES_SERVICE_HOST:-}:${KUBERNETES_SERVICE_PORT:-}}
  url=$url/apis/apps/v1/namespaces/$(cat "$account/namespace")/daemonsets/$POD_DAEMON_SET
  answer=$(printf '%s\n' "url = \"$url\"" "header = \"Authorization: Bearer $(cat "$account/token")\"" \
    'header = "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"' \
    'cacert = "/proc/self/fd/3"' silent 'max-time = 10' 'write-out = "\n%{http_code}"' |
    on_node env -i PATH="$node_path" curl -q -K - 3<"$account/ca.crt") || return
  case ${answer##*
} in
    404) ;;
    200) echo "$answer" | grep -q '"deletionTimestamp" *:' ;;
    *) return 1 ;;
  esac
}

ready() {
  read -r at status <"$run/status" || { echo "no step has ended yet"; exit 1; }
  [ $(($(date +%s) - at)) -le $((interval * 6 + 180)) ] || { echo "no step has ended since $at"; exit 1; }
  case $status in in-place:*) exit 0 ;; esac
  echo "$status"
  exit 1
}

case ${1:-} in
  run | ready) "$1" ;;
  *)
    echo "usage: pod.sh run | ready" >&2
    exit 2
    ;;
esac
