/** Attributes of nodes by their ids (OPC 10000-6 annex A.1); the index of a name is its id. */
export const ATTRIBUTES: readonly string[] = [
  '',
  'NodeId',
  'NodeClass',
  'BrowseName',
  'DisplayName',
  'Description',
  'WriteMask',
  'UserWriteMask',
  'IsAbstract',
  'Symmetric',
  'InverseName',
  'ContainsNoLoops',
  'EventNotifier',
  'Value',
  'DataType',
  'ValueRank',
  'ArrayDimensions',
  'AccessLevel',
  'UserAccessLevel',
  'MinimumSamplingInterval',
  'Historizing',
  'Executable',
  'UserExecutable',
  'DataTypeDefinition',
  'RolePermissions',
  'UserRolePermissions',
  'AccessRestrictions',
  'AccessLevelEx',
]

export const VALUE_ATTRIBUTE = 13

/** The name of an attribute id; `attribute-99` where the specification has none. */
export const attributeName = (id: number): string => (id > 0 ? ATTRIBUTES[id] : undefined) ?? `attribute-${id}`
