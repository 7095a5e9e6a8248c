# Under emulation, unpacking packages is most of the work of making a root. Some programs do the same
# for every architecture: the tools tree's own stand first on the path while packages are installed,
# and are gone afterwards. Compiling Python waits until the end (see root.py).
#
#   quick.sh put ROOT | quick.sh away ROOT
root=$2
native=$root/usr/local/native
programs=$root/usr/local/bin

if [ "$1" = away ]; then
  rm -r "$native"
  cd "$programs"
  rm dpkg dpkg-deb depmod openssl py3compile
  exit 0
fi

mkdir -p "$native" "$programs"
for path in /usr/bin/dpkg-deb /usr/bin/kmod /usr/bin/openssl; do
  cp -L "$path" "$native/"
  ldd "$path" | grep -o '/[^ ]*\.so[^ ]*' | xargs cp -L -t "$native"
done

# A program and the name it is called by: kmod is depmod by its name alone.
put() {
  cat > "$programs/$2" <<END
#!/bin/sh
native=/usr/local/native
exec \$native/ld-linux-x86-64.so.2 --argv0 $2 --library-path \$native \$native/$1 "\$@"
END
}
put dpkg-deb dpkg-deb
put kmod depmod
put openssl openssl
printf '#!/bin/sh\n' > "$programs/py3compile"
# Python asks dpkg which files of its library to compile: none yet.
cat > "$programs/dpkg" <<'END'
#!/bin/sh
case "$1 $2" in "-L libpython3."*-stdlib*) exit 0 ;; esac
exec /usr/bin/dpkg "$@"
END
chmod 755 "$programs"/*
