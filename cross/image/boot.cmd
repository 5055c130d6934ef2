# What U-Boot runs: chooses a slot by the boot record, counts a try before it is made, starts the kernel.
#
# The record lies twice on the disk, 512 bytes each, outside of all partitions. A copy counts if its
# magic and its checksum are right; of two the one with the greater generation does. It is always the
# other copy that is written, so that a power cut leaves one whole.
#
#   0x000 magic "HOLM"   0x004 format   0x008 generation   0x00c good slot (0 a, 1 b)
#   0x010 1: the other slot is on trial   0x014 tries left
#   0x1f8 CRC-32 of all before, and at 0x1fc the same with its bytes reversed: `crc32` writes it in
#         one order or the other, depending on how U-Boot was built
#
# @NAME@ is filled in by `cargo xtask image`.
setenv c0 @SCRATCH@
setexpr c1 ${c0} + 200
setexpr sum ${c0} + 400
setexpr new ${c0} + 600
setenv holm_kernel @KERNEL@
setenv holm_packed @PACKED@
setenv holm_ramdisk @RAMDISK@
${devtype} dev ${devnum}

setenv pick none
if ${devtype} read ${c0} @COPY0@ 1; then
  setexpr at ${c0} + 1f8
  setexpr ta ${c0} + 1fc
  crc32 ${c0} 1f8 ${sum}
  setenv whole 0
  if cmp.l ${sum} ${at} 1; then setenv whole 1; fi
  if cmp.l ${sum} ${ta} 1; then setenv whole 1; fi
  if itest.l *${c0} == 4d4c4f48 && test ${whole} = 1; then setenv pick c0; fi
fi
if ${devtype} read ${c1} @COPY1@ 1; then
  setexpr at ${c1} + 1f8
  setexpr ta ${c1} + 1fc
  crc32 ${c1} 1f8 ${sum}
  setenv whole 0
  if cmp.l ${sum} ${at} 1; then setenv whole 1; fi
  if cmp.l ${sum} ${ta} 1; then setenv whole 1; fi
  if itest.l *${c1} == 4d4c4f48 && test ${whole} = 1; then
    setexpr g0 ${c0} + 8
    setexpr g1 ${c1} + 8
    if test ${pick} = none || itest.l *${g1} -gt *${g0}; then setenv pick c1; fi
  fi
fi

setenv good 0
setenv trial 0
setenv tries 0
if test ${pick} = none; then
  echo "holm: no boot record can be read; starting slot a"
else
  if test ${pick} = c0; then
    cp.b ${c0} ${new} 200
    setenv other @COPY1@
  else
    cp.b ${c1} ${new} 200
    setenv other @COPY0@
  fi
  setexpr at ${new} + c
  setexpr.l good *${at}
  setexpr at ${new} + 10
  setexpr.l trial *${at}
  setexpr at ${new} + 14
  setexpr.l tries *${at}
fi

# A trial whose try could not be written down is not made: it might be made for ever.
setenv onto ${good}
setenv on_trial 0
if itest ${trial} == 1; then
  if itest ${tries} -gt 0; then
    setexpr tries ${tries} - 1
    setexpr at ${new} + 14
    mw.l ${at} ${tries}
    setenv on_trial 1
  else
    echo "holm: the trial failed; back to the good slot"
    setexpr at ${new} + 10
    mw.l ${at} 0
  fi
  setexpr at ${new} + 8
  setexpr.l generation *${at}
  setexpr generation ${generation} + 1
  mw.l ${at} ${generation}
  setexpr at ${new} + 1f8
  crc32 ${new} 1f8 ${at}
  setexpr to ${new} + 1ff
  for n in 1 2 3 4; do
    setexpr.b byte *${at}
    mw.b ${to} ${byte}
    setexpr at ${at} + 1
    setexpr to ${to} - 1
  done
  if ${devtype} write ${new} ${other} 1; then true; else
    echo "holm: the boot record cannot be written; no trial"
    setenv on_trial 0
  fi
  if test ${on_trial} = 1; then setexpr onto 1 - ${good}; fi
fi
if itest ${onto} == 0; then setenv slot a; else setenv slot b; fi

# Boards whose watchdog must be left alone are told so before anything can be read from the data.
setenv more
if test -e ${devtype} ${devnum}:1 /watchdog-off; then setenv more " holm.watchdog=off"; fi

setenv fdt ${fdtcontroladdr}
if test -n "${fdt_addr}"; then setenv fdt ${fdt_addr}; fi
# Whether what was unpacked is what was packed: `unzip` unpacks anything, and looks at no checksum. That of the packed
# file stands 8 bytes before its end, and is compared in both orders of its bytes. The initramfs is unpacked only for
# this: the kernel, which cannot choose another one, would stop at a damaged one.
setenv holm_whole 'setexpr at ${holm_from} + ${holm_size}; setexpr at ${at} - 8; cp.b ${at} ${c0} 4; setexpr at ${c0} + 0; setexpr to ${c1} + 3; for n in 1 2 3 4; do setexpr.b byte *${at}; mw.b ${to} ${byte}; setexpr at ${at} + 1; setexpr to ${to} - 1; done; crc32 ${holm_kernel} ${filesize} ${sum}; setenv whole 0; if cmp.l ${sum} ${c0} 1; then setenv whole 1; fi; if cmp.l ${sum} ${c1} 1; then setenv whole 1; fi; test ${whole} = 1'
setenv holm_unpack 'load ${devtype} ${devnum}:1 ${holm_from} ${holm_file} && setenv holm_size ${filesize} && unzip ${holm_from} ${holm_kernel} && run holm_whole'
setenv holm_initramfs 'setenv holm_from ${holm_ramdisk}; setenv holm_file /${slot}/initramfs.gz; run holm_unpack && setenv holm_ramdisk_size ${holm_size}'
setenv holm_image 'setenv holm_from ${holm_packed}; setenv holm_file /${slot}/kernel.gz; run holm_unpack'
setenv holm_start 'setenv bootargs "@ARGS@ quiet panic=5 oops=panic holm.slot=${slot} holm.trial=${on_trial}${more}"; echo "holm: starting slot ${slot}, trial ${on_trial}, tries left ${tries}"; if run holm_initramfs && run holm_image; then booti ${holm_kernel} ${holm_ramdisk}:${holm_ramdisk_size} ${fdt}; fi'
run holm_start
echo "holm: slot ${slot} cannot be started"
if test ${on_trial} = 1; then reset; fi
if test ${slot} = a; then setenv slot b; else setenv slot a; fi
run holm_start
reset
