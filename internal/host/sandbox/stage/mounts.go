package stage

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// arrange performs the operations in order.
func arrange(ops []Op) error {
	slots := map[string]int{}
	for _, o := range ops {
		err := perform(o, slots)
		if err != nil && o.Optional && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOTDIR)) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
	}
	for _, fd := range slots {
		_ = unix.Close(fd)
	}
	return nil
}

func perform(o Op, slots map[string]int) error {
	switch o.Kind {
	case OpPrivate:
		return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	case OpLift:
		return lift(o, slots)
	case OpPlace:
		return place(o, slots)
	case OpMount:
		return unix.Mount("egret", o.Path, o.Type, uintptr(o.Flags), o.Data)
	case OpBind:
		return unix.Mount(o.Source, o.Path, "", unix.MS_BIND|unix.MS_REC, "")
	case OpSet:
		return setAttributes(o.Path, o.Flags, unix.AT_RECURSIVE)
	case OpSetOne:
		return setAttributes(o.Path, o.Flags, 0)
	case OpMkdir:
		return makeFolder(o)
	case OpFile:
		return makeFile(o)
	case OpSymlink:
		return unix.Symlink(o.Source, o.Path)
	case OpRemove:
		return os.Remove(o.Path)
	}
	return errors.New("unknown operation")
}

func lift(o Op, slots map[string]int) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, o.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		slots[o.Source] = fd
	}
	return err
}

func place(o Op, slots map[string]int) error {
	fd, ok := slots[o.Source]
	if !ok {
		return unix.ENOENT
	}
	delete(slots, o.Source)
	defer func() { _ = unix.Close(fd) }()
	return unix.MoveMount(fd, "", unix.AT_FDCWD, o.Path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func setAttributes(path string, set int, recursive uint) error {
	return unix.MountSetattr(unix.AT_FDCWD, path, recursive|unix.AT_SYMLINK_NOFOLLOW, &unix.MountAttr{Attr_set: uint64(set)})
}

// makeFolder makes a folder in a file system of the sandbox's own.
func makeFolder(o Op) error {
	if err := os.MkdirAll(o.Path, 0o755); err != nil || o.Mode == 0 {
		return err
	}
	return unix.Chmod(o.Path, uint32(o.Mode))
}

// makeFile makes a file in a file system of the sandbox's own; one that is there stays.
func makeFile(o Op) error {
	f, err := os.OpenFile(o.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, os.FileMode(o.Mode))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(o.Data)
	err = errors.Join(err, unix.Fchmod(int(f.Fd()), uint32(o.Mode)))
	return errors.Join(err, f.Close())
}
