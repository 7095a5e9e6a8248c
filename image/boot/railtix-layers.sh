#!/bin/sh
# Runs in the initramfs once the root is mounted, read-only as it stays: /etc and /var get a layer in
# memory over them, forgotten at the next boot. What is to be remembered lies on /data.
case "$1" in
prereqs)
  echo ""
  exit 0
  ;;
esac

layers=/run/layers
mkdir -p "$layers"
mount -t tmpfs -o size=128m,mode=0755,nosuid,nodev layers "$layers"
for name in etc var; do
  mkdir -p "$layers/$name" "$layers/$name.work"
  mount -t overlay -o "lowerdir=${rootmnt:?}/$name,upperdir=$layers/$name,workdir=$layers/$name.work" \
    "$name" "$rootmnt/$name" || panic "no layer over /$name"
done

# The machine's id is the same at every boot, in either slot: it is made of the board's serial number,
# or of its card's where it has none.
serial=""
for file in /proc/device-tree/serial-number /sys/block/mmcblk*/device/cid; do
  if [ -z "$serial" ] && [ -r "$file" ]; then
    serial=$(tr -d '\000' < "$file")
  fi
done
id=$(printf 'railtix machine-id%s' "$serial" | sha256sum | cut -c1-32)
if [ ${#id} -eq 32 ]; then
  printf '%s\n' "$id" > "$rootmnt/etc/machine-id"
fi
