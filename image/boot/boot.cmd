# Picks the slot to boot, and counts the try before it begins: U-Boot runs this from the FAT
# partition on the Pi (rpi_arm64) and under emulation (qemu_arm64).
#
# What it counts with lies in two raw sectors before the first partition, written in turn, each with
# a checksum: a power cut can spoil one of them and never both. It is the redundant environment that
# fw_setenv (libubootenv) writes from Linux: checksum, one byte that counts up, variables.

# On a Pi, U-Boot's own addresses leave a kernel 39 MiB, and Debian's has 50.
if test "${board}" = rpi; then
  setenv kernel_addr_r 0x08000000
  setenv ramdisk_addr_r 0x10000000
fi

setexpr one ${ramdisk_addr_r} + 1000
setexpr two ${ramdisk_addr_r} + 2000
setexpr plain ${ramdisk_addr_r} + 3000
${devtype} dev ${devnum}

# A copy without its counting byte is what `env import -c` checks and reads.
setenv read_copy 'setexpr body ${copy} + 5; setexpr plain_body ${plain} + 4; ${devtype} read ${copy} ${block} 1 && cp.b ${copy} ${plain} 4 && cp.b ${body} ${plain_body} 1fb && env import -c ${plain} 1ff BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT'
setenv write_copy 'setexpr body ${copy} + 5; setexpr count_at ${copy} + 4; setexpr plain_body ${plain} + 4; env export -c -s 1ff ${plain} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT && cp.b ${plain} ${copy} 4 && mw.b ${count_at} ${count} 1 && cp.b ${plain_body} ${body} 1fb && ${devtype} write ${copy} ${block} 1'
setenv use_one 'setenv copy ${one}; setenv block @COPY_ONE_SECTOR@'
setenv use_two 'setenv copy ${two}; setenv block @COPY_TWO_SECTOR@'

setenv newest none
run use_one
if run read_copy; then setenv newest one; fi
run use_two
if run read_copy; then
  if test ${newest} = one; then
    setexpr count_at ${one} + 4
    setexpr.b count_one *${count_at}
    setexpr count_at ${two} + 4
    setexpr.b count_two *${count_at}
    # The byte wraps: the newer one is ahead by less than half of its range.
    setexpr ahead ${count_two} - ${count_one}
    setexpr ahead ${ahead} \& ff
    if itest 0x${ahead} -gt 0 && itest 0x${ahead} -lt 0x80; then setenv newest two; fi
  else
    setenv newest two
  fi
fi
setenv count 0
if test ${newest} = one; then
  run use_one; run read_copy
fi
if test ${newest} = two; then
  run use_two; run read_copy
fi
if test ${newest} = none; then
  echo "Boot state: both copies are damaged; starting afresh"
  setenv BOOT_ORDER "A B"
  setenv BOOT_A_LEFT @TRIES@
  setenv BOOT_B_LEFT @TRIES@
else
  setexpr count_at ${copy} + 4
  setexpr.b count *${count_at}
  setexpr count ${count} + 1
  setexpr count ${count} \& ff
fi

setenv choose 'for name in ${BOOT_ORDER}; do if test -z "${slot}"; then if test "${name}" = A && test -n "${BOOT_A_LEFT}" && test "${BOOT_A_LEFT}" -gt 0; then setenv slot A; setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; fi; if test -z "${slot}" && test "${name}" = B && test -n "${BOOT_B_LEFT}" && test "${BOOT_B_LEFT}" -gt 0; then setenv slot B; setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1; fi; fi; done'
setenv slot
run choose
if test -z "${slot}"; then
  echo "Boot state: no slot has a try left; giving both of them @TRIES@ more"
  setenv BOOT_A_LEFT @TRIES@
  setenv BOOT_B_LEFT @TRIES@
  run choose
fi
if test -z "${slot}"; then
  setenv BOOT_ORDER "A B"
  run choose
fi

# The older copy is the one to overwrite.
if test ${newest} = one; then run use_two; else run use_one; fi
if run write_copy; then true; else echo "Boot state: could not be written"; fi

setenv slot_part 2
if test "${slot}" = B; then setenv slot_part 3; fi
echo "Slot ${slot} (order ${BOOT_ORDER}, tries left A ${BOOT_A_LEFT}, B ${BOOT_B_LEFT})"

setenv bootargs "root=PARTUUID=@SIGNATURE@-0${slot_part} rootfstype=ext4 ro rootwait rauc.slot=${slot} panic=10 @ARGUMENTS@"
if test "${board}" = rpi; then
  # The Pi's own firmware says in its device tree what it found (addresses, memory, cmdline.txt).
  fdt addr ${fdt_addr}
  if fdt get value firmware_args /chosen bootargs; then
    setenv bootargs "${firmware_args} ${bootargs}"
  fi
else
  setenv bootargs "console=ttyAMA0 ${bootargs}"
fi
setenv device_tree ${fdt_addr}
if test -z "${device_tree}"; then setenv device_tree ${fdtcontroladdr}; fi

if load ${devtype} ${devnum}:${slot_part} ${kernel_addr_r} /boot/vmlinuz; then
  if load ${devtype} ${devnum}:${slot_part} ${ramdisk_addr_r} /boot/initrd.img; then
    booti ${kernel_addr_r} ${ramdisk_addr_r}:${filesize} ${device_tree}
  fi
fi
echo "Slot ${slot} could not be started; trying again"
sleep 3
reset
