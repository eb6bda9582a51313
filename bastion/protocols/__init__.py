"""Every protocol that bastion speaks: one folder each, all behind `bastion.protocols.contract`."""
