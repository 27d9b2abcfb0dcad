# fish completion of kdump-pkg

set -l verbs status rebuild load unload setup estimate rehearse test prune collect decrypt
set -l no_verb "not __fish_seen_subcommand_from $verbs"
set -l any_verb "__fish_seen_subcommand_from $verbs"
set -l with_root '__fish_seen_subcommand_from status rebuild setup estimate rehearse prune collect'
set -l rebuild '__fish_seen_subcommand_from rebuild'
set -l load '__fish_seen_subcommand_from load'
set -l setup '__fish_seen_subcommand_from setup'
set -l estimate '__fish_seen_subcommand_from estimate'
set -l rehearse '__fish_seen_subcommand_from rehearse'
set -l prune '__fish_seen_subcommand_from prune'
set -l decrypt '__fish_seen_subcommand_from decrypt'

complete -c kdump-pkg -f
complete -c kdump-pkg -s h -l help -d 'show the options'
complete -c kdump-pkg -n $no_verb -l version -d 'show the version'

complete -c kdump-pkg -n $no_verb -a status -d 'show whether a crash now would be saved, and what to do if not'
complete -c kdump-pkg -n $no_verb -a rebuild -d 'make configuration, preset, image and load what they should be'
complete -c kdump-pkg -n $no_verb -a load -d 'load the capture kernel'
complete -c kdump-pkg -n $no_verb -a unload -d 'take the capture kernel out; a crash saves nothing then'
complete -c kdump-pkg -n $no_verb -a setup -d 'reserve memory in the boot loader\'s configuration and enable the units'
complete -c kdump-pkg -n $no_verb -a estimate -d 'say how much memory to reserve, and why'
complete -c kdump-pkg -n $no_verb -a rehearse -d 'crash kernel, image and command line in a virtual machine'
complete -c kdump-pkg -n $no_verb -a test -d 'crash this machine on purpose, to see that it is saved'
complete -c kdump-pkg -n $no_verb -a prune -d 'remove dumps by the rules of the configuration'
complete -c kdump-pkg -n $no_verb -a collect -d 'gather what a failed capture left behind, then prune'
complete -c kdump-pkg -n $no_verb -a decrypt -d 'make readable files of an encrypted dump'

complete -c kdump-pkg -n $any_verb -l debug -d 'show where an error comes from'
complete -c kdump-pkg -n $with_root -l root -x -a '(__fish_complete_directories)' -d 'work on the system below a directory'
complete -c kdump-pkg -n $with_root -l json -d 'print JSON'
complete -c kdump-pkg -n $rebuild -l dry-run -d 'print what would be done, and why'
complete -c kdump-pkg -n $rebuild -l force -d 'rebuild and load what is current, too'
complete -c kdump-pkg -n $load -l unlock -d 'ask for the passphrases of encrypted targets'
complete -c kdump-pkg -n $setup -l dry-run -d 'print what would be done, as a diff'
complete -c kdump-pkg -n $setup -l yes -d 'don\'t ask'
complete -c kdump-pkg -n $setup -l undo -d 'take back what setup has changed'
complete -c kdump-pkg -n $setup -l loader -x -d 'boot loader to set up' \
    -a 'grub systemd-boot sdboot-manage uki limine limine-entry-tool refind syslinux efistub'
complete -c kdump-pkg -n $setup -l crashkernel -x -d 'reserve so much, whatever is reserved now'
complete -c kdump-pkg -n $setup -l panic-on-hang -d 'let an oops or a hang become a panic, which is saved'
complete -c kdump-pkg -n $estimate -l measure -d 'find the smallest that captures, by rehearsing'
complete -c kdump-pkg -n $estimate -l shrink -d 'give back now what is reserved in excess'
complete -c kdump-pkg -n $prune -l dry-run -d 'print what would be done, and why'
complete -c kdump-pkg -n $decrypt -l identity -r -F -d 'private key'
complete -c kdump-pkg -n $decrypt -l output -r -F -d 'write the vmcore to a file, and nothing else'
complete -c kdump-pkg -n $decrypt -a '(__fish_complete_directories)' -d 'directory of the dump'
complete -c kdump-pkg -n $rehearse -l memory -x -d 'memory of the virtual machine, in MiB'
complete -c kdump-pkg -n $rehearse -l crashkernel -x -d 'reservation to try'
complete -c kdump-pkg -n $rehearse -l timeout -x -d 'give up after so many seconds'
complete -c kdump-pkg -n $rehearse -l passphrase -d 'type the passphrase of an encrypted scratch disk'
complete -c kdump-pkg -n $rehearse -l keep -x -a '(__fish_complete_directories)' -d 'keep dump, disk and console log'
