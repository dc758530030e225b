#!/bin/sh
# Makes containerd on a Kubernetes node pull the images of registries through their proxies.
#
#   node.sh apply <list     the mirrors of the list are in place, and no others of this script's
#   node.sh remove          the node is as it was found
#
# The list is read from standard input: a line `host domain [login [basic|bearer]]` for each registry
# host, with the login as base64 of user:password (- for none) and how the proxy takes it, if that is
# known already. Lines of PEM after these are the authority that signed the proxies' certificates.
#
# Prints one line, `state: reason`; exit status 0 if the state is `in-place`. README.md has the states.
# POSIX sh. A node pool runs it without comments, indentation and what is for nodes that were changed
# before: no line may depend on these.

set -u
umask 077
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
config=/etc/containerd/config.toml
state=/etc/containerd/dockerhub-mirror
socket=/run/containerd/containerd.sock
# Ends each line that this script adds to a config file, and begins each hosts.toml that it writes.
mark='# by dockerhub-mirror'
# Begins each line of a config file that this script has put out of force.
off='#dockerhub-mirror '
cri=io.containerd.grpc.v1.cri

# Unlike echo, leaves backslashes alone.
print() {
  printf '%s\n' "$1"
}

finish() {
  print "$1: $2"
  [ "$1" = in-place ]
  exit
}

refuse() {
  finish refused "$1"
}

# Standard input becomes file $1, whole or not at all.
write() {
  cat >"$1.new" && mv -f "$1.new" "$1" && return
  rm -f "$1.new"
  refuse "cannot write $1"
}

# ---- config files ----

# Prints what containerd makes of config file $1 and what that imports.
dump() {
  if [ -f "$1" ]; then containerd -c "$1" config dump; else containerd config default; fi 2>/dev/null
}

# Prints the config_path in a dump, of whichever table this version of containerd reads.
path_in() {
  sed -n '/^ *\[plugins.*cri.*registry\]/,/^ *\[/s/^ *config_path = .\(.*\).$/\1/p'
}

# Prints the config files that this script has changed. Others than config.toml are in folders beside it.
changed() {
  grep -ls "$mark\$" $config /etc/containerd/*/*.toml
}

# Prints file $1 without what this script did to it.
original() {
  sed "/$mark\$/d; s/^$off//" "$1" 2>/dev/null
}

# Prints $file as it has to be: with config_path if set_path is not empty, and with logins.
wanted() {
  version=$(original "$file" | sed -n '/^ *\[/q; s/^ *version *= *\([0-9]*\).*/\1/p')
  if [ -z "$version" ]; then
    ! original "$file" | grep -q '^ *[^# ]' ||
      refuse "$file is of version 1: migrate it with containerd config migrate"
    echo "version = 2 $mark"
  fi
  plugin=$cri
  [ $major = 1 ] || [ "$version" -le 2 ] 2>/dev/null || plugin=io.containerd.cri.v1.images
  line="config_path = \"$path\" $mark"
  table="^[[:space:]]*\[plugins\..$plugin.\.registry\]"
  text=$(original "$file")
  if [ -z "$set_path" ]; then
    print "$text"
  elif print "$text" | grep -q "$table"; then
    print "$text" | sed "/$table/,/^ *\[/s/^ *config_path *=/$off&/; /$table/a\\
$line"
  else
    printf '%s\n' "$text" "[plugins.\"$plugin\".registry] $mark" "$line"
  fi
  logins
}

# Prints the tables that give containerd 1.x the logins that it does not take from hosts.toml.
logins() {
  print "$plan" | sort -u -k 2,2 | while read -r host domain login kind; do
    in_config || continue
    text=$(print "$login" | base64 -d | sed 's/[\\"]/\\&/g')
    echo "[plugins.\"$cri\".registry.configs.\"$domain\".auth] $mark"
    printf '%s = "%s" %s\n' username "${text%%:*}" "$mark" password "${text#*:}" "$mark"
  done
}

# Whether the login of a line of the plan is for a config file.
in_config() {
  [ $major = 1 ] && [ "$login" != - ] || return
  was_in_config ||
    [ "$kind" = bearer ]
}

# Puts $text in place of $file, after containerd has read it from beside it.
change() {
  if [ -f "$file" ]; then
    cp -p "$file" "$file.new" && {
      grep -q "$mark\$" "$file" || {
        cp -p "$file" $state/new && mv $state/new "$state/${file##*/}.before"
      }
    }
  fi && print "$text" >"$file.new" || refuse "cannot write to $state or beside $file"
  case $text in *"auth] $mark"*) chmod 600 "$file.new" ;; esac
  if [ "$(dump "$file.new" | path_in)" = "$path" ]; then
    mv -f "$file.new" "$file"
    [ "$(dump $config | path_in)" != "$path" ] || return 0
  fi
  restore_config
  rm -f "$file.new" $state/restart
  refuse "containerd does not take config_path from $file"
}

# Takes what this script did to config files back. What somebody else changed since stays.
restore_config() {
  for file in $(changed); do
    file=$(readlink -f "$file")
    before=$state/${file##*/}.before
    if [ "$(original "$file")" != "$(cat "$before" 2>/dev/null)" ]; then
      cp -p "$file" "$file.new" && original "$file" >"$file.new" && mv -f "$file.new" "$file"
    elif [ -f "$before" ]; then
      mv -f "$before" "$file"
    else
      rm -f "$file"
    fi || refuse "cannot write $file"
  done
}

# ---- restarts ----

# Restarts containerd; whether it comes up with its CRI plugin.
restart() {
  sh -c "${MIRROR_RESTART:-systemctl restart containerd}" >&2 9>&- || return
  left=${MIRROR_RESTART_SECONDS:-60}
  until ctr --timeout 5s plugins ls 2>/dev/null | grep -q '^io.containerd.grpc.v1[[:space:]]*cri[[:space:]].*ok'; do
    [ "$left" -gt 0 ] || return
    left=$((left - 1))
    sleep 1
  done
}

# Notes that a restart is due since $file says $text.
plan_restart() {
  id=$(print "$text" | cksum)
  refuse_rejected
  may_restart "$file is not what containerd has read"
  echo "$id" | write $state/restart || exit
}
rejected="containerd did not come up healthy with its config changed. Delete $state/rejected to try again"

# Makes the restart that is due, if one is. If containerd does not come up healthy, it gets its config
# from before, and the change is not tried again.
settle() {
  [ -f $state/restart ] || return 0
  may_restart "containerd has not read its changed config"
  if ! restart; then
    cp $state/restart $state/rejected # first: whoever is killed from here on does not try it again
    restore_config
    restart
    rm -f $state/restart
    refuse "$rejected"
  fi
  rm -f $state/restart
}

# ---- hosts.toml ----

present() {
  [ -e "$1" ] || [ -h "$1" ]
}

is_ours() {
  [ "$(head -n 1 "$1" 2>/dev/null)" = "$mark" ]
}

# The hosts.toml for a line of the plan. Without `server`, containerd goes on to the host itself.
hosts_toml() {
  echo "$mark"
  [ "${MIRROR_STRICT:-}" != true ] || echo "server = \"https://$domain\""
  echo "[host.\"https://$domain\"]"
  echo 'capabilities = ["pull", "resolve"]'
  echo 'dial_timeout = "5s"'
  [ -z "$ca" ] || echo "ca = \"$state/ca.crt\""
  [ "$login" = - ] || in_config ||
    printf '[host."https://%s".header]\nAuthorization = "Basic %s"\n' "$domain" "$login"
}

# Writes the hosts.toml of a line of the plan. One that was there first is kept.
place() {
  target=$path/$host/hosts.toml
  kept=$state/hosts/$host
  mkdir -p "$kept"
  if present "$target" && ! is_ours "$target"; then
    is_kept || return
    cp -Pp "$target" "$kept/new" && mv "$kept/new" "$kept/hosts.toml" || refuse "cannot keep $target"
  fi
  if [ "$(hosts_toml)" != "$(cat "$target" 2>/dev/null)" ]; then
    for folder in "$path" "$path/$host"; do
      [ -d "$folder" ] || { echo "$folder" >>$state/made && mkdir -p "$folder"; }
    done
    hosts_toml | write "$target" || exit
  fi
  [ -e "$kept/placed" ] || : >"$kept/placed"
}

# ---- the two modes ----

# Asks the proxy of a line of the list as containerd would, with the proxy settings of its systemd unit;
# sets kind to how it takes the login, or waiting to why it is not used yet.
ask() {
  environment=$(systemctl show -p Environment --value containerd 2>/dev/null | tr ' "' '\n' |
    grep -iE '^(https|no)_proxy=')
  code=$({ [ "$login" = - ] || echo "header = \"Authorization: Basic $login\""; } |
    env -i PATH="$PATH" $environment curl -qsm 5 -K - -o /dev/null -w '%{http_code}' \
      ${ca:+--cacert $state/ca.new} "https://$domain/v2/")
  case $code in
    200) kind=basic ;;
    401) kind=bearer ;;
    *) waiting="$domain answers $code" && return 1 ;;
  esac
}

apply() {
  input=$(cat)
  list=$(print "$input" | sed '/^-----/,$d')
  ca=$(print "$input" | sed -n '/^-----/,$p')
  catch_up
  [ -z "$ca" ] || print "$ca" | write $state/ca.new || exit
  plan=
  waiting=
  while read -r host domain login kind; do
    login=${login:--}
    [ -n "$kind" ] || ask || continue
    plan="$plan$host $domain $login $kind
"
  done <<LIST
$list
LIST
  [ -n "$plan" ] || finish waiting "$waiting"
  [ -z "$ca" ] || mv -f $state/ca.new $state/ca.crt || refuse "cannot write to $state"

  dumped=$(dump $config) || refuse "containerd config dump fails on $config"
  conflict=$(print "$dumped" | grep -oE 'registry\.(mirrors\..+|configs\..+\.tls)\]' | tr -d "]\"'")
  [ -z "$conflict" ] || refuse "containerd's config has $conflict, which does not go with config_path"
  imports=$(print "$dumped" | sed -n 's/^imports = //p' | tr '[],"'\' ' ')
  # containerd 1.x takes the CRI plugin's table, as a whole, from the last file that has one.
  file=$config
  [ $major != 1 ] || for each in $imports; do
    ! grep -qs "^[^#]*$cri" "$each" || file=$each
  done
  file=$(readlink -f "$file")
  path=$(print "$dumped" | path_in)
  set_path=
  case $path in '' | *:*) path=/etc/containerd/certs.d set_path=1 ;; esac
  keep_set_path
  text=$(wanted) || { print "$text"; exit 1; }
  if [ "$text" != "$(cat "$file" 2>/dev/null)" ]; then
    plan_restart
    change
  elif [ "$path" != "$(cat $state/path 2>/dev/null)" ] && {
    [ ! -e $socket ] || [ -n "$(find -L $config $imports -cnewer $socket 2>/dev/null)" ]
  }; then
    # Somebody has set config_path since containerd was started.
    plan_restart
  fi
  settle
  if [ "$path" != "$(cat $state/path 2>/dev/null)" ]; then
    put_back false
    echo "$path" | write $state/path || exit
  fi
  while read -r host domain login kind; do
    [ -z "$host" ] || place
  done <<PLAN
$plan
PLAN
  refuse_foreign
  [ -z "$waiting" ] || finish waiting "$waiting"
  finish in-place "containerd $version, $path"
}

# ---- nodes that were changed before ----
# A node pool's script goes without these functions, and without the lines that begin with a call of one.

# Brings the node to what the list and a run that was cut short leave to do.
catch_up() {
  put_back is_listed
  settle
  [ -n "$list" ] || finish in-place "no mirrors"
}

# A login that is in the config file stays there, so that a proxy that changes its mind makes no restarts.
was_in_config() {
  grep -qs "configs.\"$domain\".auth] $mark" "$file"
}

keep_set_path() {
  ! grep -qs "^config_path.*$mark" "$file" || set_path=1
}

refuse_rejected() {
  [ "$id" != "$(cat $state/rejected 2>/dev/null)" ] || refuse "$rejected"
}

may_restart() {
  [ "${MIRROR_MAY_RESTART:-true}" = true ] || finish restart-needed "$1"
}

# Puts the hosts.toml of each host back for which $1 fails.
put_back() {
  for kept in $state/hosts/*; do
    host=${kept##*/}
    [ -d "$kept" ] && ! $1 || continue
    target=$(cat $state/path)/$host/hosts.toml
    rm -f "$target.new"
    if ! present "$target" || is_ours "$target"; then
      if present "$kept/hosts.toml"; then mv -f "$kept/hosts.toml" "$target"; else rm -f "$target"; fi ||
        refuse "cannot put back $target"
    fi
    rm -rf "$kept"
  done
}

is_listed() {
  print "$list" | grep -q "^$host "
}

# Whether $target, which is not this script's, is from before it. One that somebody else wrote over this
# script's later is left alone.
is_kept() {
  [ ! -e "$kept/placed" ] || same "$target" "$kept/hosts.toml" || { foreign="${foreign-} $target" && return 1; }
}

refuse_foreign() {
  [ -z "${foreign-}" ] ||
    refuse "somebody else wrote$foreign later. Delete it, or keep its writer off this node"
}

# Whether two files are the same, or symbolic links to the same.
same() {
  [ "$(readlink "$1")" = "$(readlink "$2")" ] && { [ -h "$1" ] || cmp -s "$1" "$2"; }
}

remove() {
  [ -z "$(changed)" ] && [ ! -f $state/restart ] || may_restart "the config has to be put back"
  put_back false
  if [ -n "$(changed)" ]; then
    echo removing | write $state/restart || exit
    restore_config
  fi
  rm -f $config.new /etc/containerd/*/*.toml.new
  [ ! -f $state/restart ] || restart || echo "containerd is not healthy with its own config" >&2
  sort -r $state/made 2>/dev/null | while read -r folder; do rmdir "$folder" 2>/dev/null; done
  rm -rf $state
  finish in-place removed
}

# ---- end of nodes that were changed before ----

main() {
  version=$(containerd --version 2>/dev/null | sed 's/^[^ ]* [^ ]* v\{0,1\}//; s/ .*//')
  case $version in
    1.[6-9]* | 1.[1-9][0-9]*) major=1 ;;
    [2-9].*) major=2 ;;
    *) refuse "containerd 1.6 or later is needed, this is '$version'" ;;
  esac
  mkdir -p $state 2>/dev/null || refuse "cannot write to $state"
  exec 9>/run/dockerhub-mirror.lock
  flock -w 120 9 || refuse "another run has been going on for 120 s"
  $1
}

# ---- the command line ----

case ${1-} in
  apply | remove) main "$1" ;;
  *) refuse "usage: node.sh apply <list | remove" ;;
esac
