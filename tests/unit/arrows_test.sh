#!/bin/bash
# Holds the rooms' arrows: a room may include itself, the SPI, and the rooms that ARCHITECTURE.md draws below it.
set -eu
cd "$1"
declare -A below=(
  [base]="" [config]="base" [catalog]="base" [origin]="base" [identity]="base" [convert]="base" [events]="base"
  [http]="base events" [image_cache]="base catalog origin events" [volume_cache]="base catalog convert image_cache events origin"
  [api]="base http identity image_cache volume_cache events catalog origin" [cli]="base config"
)
# A third party's headers stop at one room.
declare -A home=(
  ['curl/']="base" ['base/curl.hpp']="origin identity cli" ['yaml-cpp/']="identity" ['SQLiteCpp/']="catalog image_cache origin" ['boost/beast']="http" ['prometheus/']="events"
  ['CLI/']="cli" ['spdlog/']="base" ['openssl/']="base http events" ['libdeflate.h']="convert" ['systemd/']="app" ['amqp']="events"
)
bad=0
complain() { echo "$1"; bad=1; }
for room in "${!below[@]}"; do
  allowed=" $room imagecache ${below[$room]} "
  while IFS=: read -r file line include; do
    target=${include#*\"}; target=${target%%/*}
    [[ $allowed == *" $target "* ]] || complain "$file:$line: $room may not include $include"
  done < <(grep -rnE '^#include "' "src/$room" --include='*.hpp' --include='*.cpp' || true)
done
while IFS=: read -r file line include; do
  target=${include#*\"}; target=${target%%/*}
  folder=$(cut -d/ -f2 <<<"$file")
  [[ " base imagecache backends " == *" $target "* ]] || complain "$file:$line: a backend may not include $include"
  [[ $include == *"\"backends/"* && $folder != drivers.cpp && $include != *"backends/$folder/"* && $include != *"backends/drivers.hpp"* ]] \
    && complain "$file:$line: backends share nothing sideways"
done < <(grep -rnE '^#include "' backends --include='*.hpp' --include='*.cpp' || true)
for header in "${!home[@]}"; do
  while IFS=: read -r file line _; do
    room=$(cut -d/ -f2 <<<"$file")
    [[ " ${home[$header]} " == *" $room "* ]] || complain "$file:$line: $header… belongs to: ${home[$header]}"
  done < <(grep -rnE "^#include [<\"]$header" src --include='*.hpp' --include='*.cpp' || true)
done
[ "$bad" = 0 ] && echo "all arrows point down"
exit $bad
