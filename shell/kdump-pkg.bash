# shellcheck shell=bash
# bash completion of kdump-pkg

_kdump_pkg() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb='' action='' word candidates

    # bash takes `--root=/mnt` for three words
    if [[ $current == '=' ]]; then
        current=''
    elif [[ $previous == '=' ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ $word != -* ]] || continue
        [[ -z $verb ]] || { action=$word && break; }
        verb=$word
    done

    COMPREPLY=()
    case $previous in
        --root | --keep)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        --identity | --output | --html)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        --loader)
            candidates='grub systemd-boot sdboot-manage uki limine limine-entry-tool refind syslinux efistub'
            mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
            return
            ;;
        --tool)
            mapfile -t COMPREPLY < <(compgen -W 'crash drgn' -- "$current")
            return
            ;;
        --memory | --crashkernel | --timeout | --command) return ;;
    esac
    case $verb in
        '')
            candidates='status rebuild load unload setup estimate rehearse test variant list info report debug verify
                export pin unpin remove prune collect decrypt upload --help --version'
            ;;
        status | collect) candidates='--help --debug --root --json' ;;
        rebuild) candidates='--help --debug --root --json --dry-run --force' ;;
        load) candidates='--help --debug --unlock' ;;
        unload | test) candidates='--help --debug' ;;
        setup)
            candidates='--help --debug --root --json --dry-run --yes --undo --loader --crashkernel --panic-on-hang'
            ;;
        estimate) candidates='--help --debug --root --json --measure --shrink' ;;
        rehearse) candidates='--help --debug --root --json --memory --crashkernel --timeout --passphrase --keep' ;;
        variant)
            case $action:$current in
                build:*) candidates='--help --debug --automatic --debug-kernel --force' ;;
                status:*) candidates='--help --debug --json' ;;
                remove:*) candidates='--help --debug --yes' ;;
                :-*) candidates='--help --debug --json --automatic --debug-kernel --force --yes' ;;
                :*) candidates='build status remove' ;;
                *) return ;;
            esac
            ;;
        prune) candidates='--help --debug --root --json --dry-run' ;;
        list | info | verify) candidates='--help --debug --root --json' ;;
        report) candidates='--help --debug --root --json --html' ;;
        debug) candidates='--help --debug --tool --command --force --prepare' ;;
        export) candidates='--help --debug --debug-kernel' ;;
        pin | unpin) candidates='--help --debug' ;;
        remove) candidates='--help --debug --yes' ;;
        upload) candidates='--help --debug --json --dry-run' ;;
        decrypt)
            candidates='--help --debug --identity --output'
            if [[ $current != -* ]]; then # the directory of a dump
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -d -- "$current")
                return
            fi
            ;;
        *) return ;;
    esac
    case $verb:$current in
        *:-*) ;;
        list:* | info:* | report:* | debug:* | verify:* | export:* | pin:* | unpin:* | remove:*)
            candidates=$(ls /var/crash 2>/dev/null) # what a user may not see isn't offered
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$current")
}

complete -F _kdump_pkg kdump-pkg
