"""A server of pymodbus with 200 of everything, each of its address's value: `HOST PORT`."""

import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.device import ModbusDeviceIdentification
from pymodbus.server import StartTcpServer


def block():
    return ModbusSequentialDataBlock(0, list(range(200)))


store = ModbusSlaveContext(di=block(), co=block(), hr=block(), ir=block(), zero_mode=True)
identity = ModbusDeviceIdentification(info_name={"VendorName": "pymodbus", "ProductCode": "PM", "MajorMinorRevision": "3"})
context = ModbusServerContext(slaves=store, single=True)
StartTcpServer(context=context, identity=identity, address=(sys.argv[1], int(sys.argv[2])))
