# Copyright: vlab.qemu contributors
# SPDX-License-Identifier: GPL-3.0-or-later

# The guest of the KVM probe; plugins/module_utils/_qemu/accelerators.py holds its bytes. It does real work in the mode that 64-bit
# guests live in: a KVM that interprets guests one instruction at a time reaches the port as well, but not in time.
#
# It is firmware of 64 KiB, seen at 0xf0000. At 0xfff0 of it, where the processor starts, is a far jump to f000:0000: ea 00 00 00 f0.
# To print the bytes of the code:
#   gcc -c -m64 -nostdlib -o probe.o kvm_probe.S && objcopy -O binary -j .text probe.o probe.bin && xxd -p -c 64 probe.bin

	.set	BASE, 0xf0000		# where .text is in memory
	.set	TABLES, 0x10000		# three page tables in RAM, which is zero after power-on
	.set	ROUNDS, 10000000	# some 10 ms on hardware

	.text
	.code16
entry:
	cli
	mov	%cs, %ax
	mov	%ax, %ds
	lgdtl	gdt_pointer - entry
	mov	$0x11, %eax		# PE, ET
	mov	%eax, %cr0
	ljmpl	$0x08, $(BASE + protected - entry)

	.code32
protected:
	mov	$0x10, %ax
	mov	%ax, %ds
	mov	%ax, %ss
	mov	$0x80000001, %eax
	cpuid
	bt	$29, %edx		# LM: the default processor of qemu-system-i386 has no long mode
	jnc	work
	mov	$TABLES, %edi
	lea	0x1003(%edi), %eax	# present, writable
	mov	%eax, (%edi)		# level 4 -> level 3
	add	$0x1000, %eax
	mov	%eax, 0x1000(%edi)	# level 3 -> level 2
	movb	$0x83, 0x2000(%edi)	# level 2: the first 2 MiB as they are
	mov	%edi, %cr3
	mov	$0x20, %eax		# PAE
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx	# EFER
	xor	%edx, %edx
	mov	$0x100, %eax		# LME
	wrmsr
	mov	$0x80000011, %eax	# PG, ET, PE
	mov	%eax, %cr0
	ljmp	$0x18, $(BASE + work - entry)

	.code64				# bytes that mean the same in 32-bit mode
work:
	mov	$ROUNDS, %ecx
1:	sub	$1, %ecx
	jnz	1b
	mov	$0x3f8, %dx		# COM1
	mov	$'K', %al
	outb	%al, %dx
	mov	$0xfe, %al		# the keyboard controller pulls the reset line
	outb	%al, $0x64
	ud2				# machines without one: no handler, so a triple fault, which is a reset too

	# The accessed bit (1 in 0x9b, 0x93) must be set: the processor cannot set it in read-only memory.
	.balign	8, 0
gdt:	.quad	0
	.quad	0x00cf9b000000ffff	# 0x08: 32-bit code
	.quad	0x00cf93000000ffff	# 0x10: data
	.quad	0x00af9b000000ffff	# 0x18: 64-bit code
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	BASE + gdt - entry
